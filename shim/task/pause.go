package task

import (
	"context"
	"sync"
	"time"

	"github.com/containerd/cgroups/v3/cgroup2/stats"
	"github.com/containerd/ttrpc"
	"github.com/containerd/typeurl/v2"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/microvm/microvm/agent/api"
)

// guestTask is what a guest does for a container, as in [api.TaskService].
type guestTask interface {
	Start(context.Context, *api.StartRequest) (*api.StartResponse, error)
	Delete(context.Context, *api.DeleteRequest) (*api.DeleteResponse, error)
	Pause(context.Context, *api.PauseRequest) (*emptypb.Empty, error)
	Resume(context.Context, *api.ResumeRequest) (*emptypb.Empty, error)
	Kill(context.Context, *api.KillRequest) (*emptypb.Empty, error)
	Exec(context.Context, *api.ExecProcessRequest) (*emptypb.Empty, error)
	ResizePty(context.Context, *api.ResizePtyRequest) (*emptypb.Empty, error)
	Update(context.Context, *api.UpdateTaskRequest) (*emptypb.Empty, error)
	Wait(context.Context, *api.WaitRequest) (*api.WaitResponse, error)
	Stats(context.Context, *api.StatsRequest) (*api.StatsResponse, error)
}

// pause is a pod's sandbox, whose program would do nothing but wait for its end
// and hold the namespaces that a machine has anyway. It costs nothing in the
// guest, and ends with the machine.
type pause struct {
	over  <-chan struct{} // the machine's end
	once  sync.Once
	ended chan struct{}
	code  uint32
	at    time.Time
}

func newPause(over <-chan struct{}) *pause { return &pause{over: over, ended: make(chan struct{})} }

func (p *pause) Start(context.Context, *api.StartRequest) (*api.StartResponse, error) {
	return &api.StartResponse{}, nil
}

func (p *pause) Delete(context.Context, *api.DeleteRequest) (*api.DeleteResponse, error) {
	return &api.DeleteResponse{}, nil
}

func (p *pause) Wait(ctx context.Context, _ *api.WaitRequest) (*api.WaitResponse, error) {
	select {
	case <-p.ended:
		return &api.WaitResponse{ExitStatus: p.code, ExitedAt: timestamppb.New(p.at)}, nil
	case <-p.over:
		return nil, ttrpc.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Kill ends it with the signals that end Kubernetes's own program.
func (p *pause) Kill(_ context.Context, r *api.KillRequest) (*emptypb.Empty, error) {
	switch unix.Signal(r.GetSignal()) {
	case unix.SIGKILL:
		p.end(exitLost)
	case unix.SIGTERM, unix.SIGINT:
		p.end(0)
	}
	return &emptypb.Empty{}, nil
}

func (p *pause) end(code uint32) {
	p.once.Do(func() {
		p.code, p.at = code, time.Now()
		close(p.ended)
	})
}

func (p *pause) Stats(context.Context, *api.StatsRequest) (*api.StatsResponse, error) {
	packed, err := typeurl.MarshalAnyToProto(&stats.Metrics{})
	if err != nil {
		return nil, err
	}
	return &api.StatsResponse{Stats: packed}, nil
}

// Update changes nothing in the guest: limits of a pod are its machine's.
func (p *pause) Update(context.Context, *api.UpdateTaskRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, nil
}

var errNoProcess = status.Error(codes.FailedPrecondition, "a pod's sandbox has no processes: name one of its containers")

func (p *pause) Exec(context.Context, *api.ExecProcessRequest) (*emptypb.Empty, error) {
	return nil, errNoProcess
}

func (p *pause) Pause(context.Context, *api.PauseRequest) (*emptypb.Empty, error) {
	return nil, errNoProcess
}

func (p *pause) Resume(context.Context, *api.ResumeRequest) (*emptypb.Empty, error) {
	return nil, errNoProcess
}

func (p *pause) ResizePty(context.Context, *api.ResizePtyRequest) (*emptypb.Empty, error) {
	return nil, errNoProcess
}
