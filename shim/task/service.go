package task

import (
	"context"
	"os"
	"path/filepath"
	"sync"

	"github.com/containerd/containerd/v2/pkg/shutdown"
	"github.com/containerd/log"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/microvm/microvm/agent/api"
	"github.com/microvm/microvm/runtime/container"
	"github.com/microvm/microvm/shim/events"
)

// Service is the task service of one shim.
type Service struct {
	engine *container.Engine
	events *events.Queue
	stop   shutdown.Service

	// making is held while a container comes or goes.
	making  sync.Mutex
	machine *machine // nil without one; under making, like what follows
	sandbox *task    // of a pod
	holder  uint32   // pid in the guest of the process that holds the pod's namespaces
	// reserved says that the only machine is that of a sandbox which the
	// sandbox service makes.
	reserved bool

	mu         sync.Mutex
	containers map[string]*task
}

var _ api.TaskService = (*Service)(nil)

func newService(ctx context.Context, queue *events.Queue, stop shutdown.Service) (*Service, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s := &Service{
		engine: &container.Engine{ExeDir: filepath.Dir(exe), Log: log.G(ctx)},
		events: queue, stop: stop, containers: map[string]*task{},
	}
	stop.RegisterCallback(func(ctx context.Context) error {
		s.making.Lock()
		defer s.making.Unlock()
		if s.machine != nil {
			s.machine.kill()
		}
		s.events.Close()
		return nil
	})
	return s, nil
}

func (s *Service) task(id string) (*task, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.containers[id]; t != nil {
		return t, nil
	}
	return nil, status.Errorf(codes.NotFound, "container %s does not exist", id)
}

func (s *Service) process(id, exec string) (*task, *process, error) {
	t, err := s.task(id)
	if err != nil {
		return nil, nil, err
	}
	p, err := t.process(exec)
	return t, p, err
}

// Connect implements [api.TaskService]. Without the task it tells of the shim alone:
// a containerd that starts again knows by that of one which it has to clean up.
func (s *Service) Connect(_ context.Context, r *api.ConnectRequest) (*api.ConnectResponse, error) {
	answer := &api.ConnectResponse{ShimPid: uint32(os.Getpid()), Version: api.Version}
	if t, err := s.task(r.GetId()); err == nil {
		answer.TaskPid = t.pid()
	}
	return answer, nil
}

// Shutdown implements [api.TaskService]. It ends the shim when it has no
// containers any more.
func (s *Service) Shutdown(context.Context, *api.TaskShutdownRequest) (*emptypb.Empty, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.containers) == 0 {
		s.stop.Shutdown()
	}
	return &emptypb.Empty{}, nil
}
