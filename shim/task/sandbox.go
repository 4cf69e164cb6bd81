package task

import (
	"context"
	"time"

	"github.com/containerd/cgroups/v3/cgroup2/stats"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/microvm/microvm/agent/api"
)

// Sandbox is a pod that is no container: its machine, into which the service
// puts the pod's containers.
type Sandbox struct {
	service *Service
	task    *task
}

// Reserve says that the shim's only machine is to be that of StartSandbox.
func (s *Service) Reserve() {
	s.making.Lock()
	defer s.making.Unlock()
	s.reserved = true
}

// farewell is how long the answer to the call that ends the shim may take on its
// way: containerd takes a connection that closes before for a failure.
const farewell = 300 * time.Millisecond

// End ends the shim, with all that is still in it, as soon as its caller has
// answered.
func (s *Service) End() { time.AfterFunc(farewell, s.stop.Shutdown) }

// StartSandbox boots the machine of the pod id, whose sandbox the bundle in dir
// describes. options are the runtime's. The sandbox is a task of that id for
// those who ask for one, but no events tell of it.
func (s *Service) StartSandbox(ctx context.Context, id, dir string, options *anypb.Any) (*Sandbox, error) {
	s.making.Lock()
	defer s.making.Unlock()
	t, err := s.add(ctx, &api.CreateTaskRequest{Id: id, Bundle: dir, Options: options}, true)
	if err != nil {
		return nil, err
	}
	t.init.turn(api.Status_CREATED, api.Status_RUNNING)
	go s.watch(t, t.init)
	return &Sandbox{s, t}, nil
}

// PID is the machine's on the host.
func (b *Sandbox) PID() uint32 { return b.task.machine.pid() }

// Ended is closed when the machine is gone and its end is known to everybody.
func (b *Sandbox) Ended() <-chan struct{} { return b.task.init.done }

// End is how the machine ended, after that.
func (b *Sandbox) End() (code uint32, at time.Time) { return b.task.init.exit, b.task.init.at }

// Over tells whether the machine has ended, when others may not know yet.
func (b *Sandbox) Over() bool { return b.task.machine.over() }

// Stop lets the guest write everything back and power off, and waits for the
// machine's end. It is killed when ctx is over.
func (b *Sandbox) Stop(ctx context.Context) error {
	if _, err := b.task.guest.Kill(ctx, &api.KillRequest{Signal: sigkill}); err != nil {
		return err
	}
	select {
	case <-b.Ended():
	case <-ctx.Done():
		b.task.machine.kill()
		<-b.Ended()
	}
	return nil
}

// Remove removes what is on the host of a sandbox that has ended.
func (b *Sandbox) Remove(ctx context.Context) error {
	_, err := b.service.Delete(ctx, &api.DeleteRequest{Id: b.task.id})
	return err
}

// Ping asks the guest for a sign of life.
func (b *Sandbox) Ping(ctx context.Context) error {
	_, err := ask(ctx, b.task, answerGrace, &api.HelloRequest{Version: api.Version}, b.task.machine.vm.Agent().Machine.Hello)
	return err
}

// Stats are what the machine takes of the host, its own needs included.
func (b *Sandbox) Stats() (*stats.Metrics, error) {
	m := b.task.machine
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cgroup == nil {
		return nil, status.Error(codes.Unavailable, "the machine has no cgroup on the host")
	}
	all, err := m.cgroup.Stats()
	return all, asStatus(err)
}
