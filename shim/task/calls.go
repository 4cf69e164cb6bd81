package task

import (
	"context"
	"time"

	"github.com/containerd/containerd/api/events"
	"github.com/containerd/containerd/v2/core/runtime"
	"github.com/containerd/log"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/microvm/microvm/agent/api"
)

// How long a guest may take before it counts as hung.
const (
	// answerGrace is for calls that change little.
	answerGrace = 10 * time.Second
	// workGrace is for calls that make or remove processes, in an emulated
	// machine on a busy host.
	workGrace = 2 * time.Minute
)

// ask makes a call of the guest. It does not end with its caller, who may be killed: the
// guest does what it was asked for, which this side has to know.
func ask[R, A any](ctx context.Context, t *task, grace time.Duration, r R, call func(context.Context, R) (A, error)) (A, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	a, err := call(ctx, r)
	return a, t.machine.explain(err)
}

// Wait implements [api.TaskService].
func (s *Service) Wait(ctx context.Context, r *api.WaitRequest) (*api.WaitResponse, error) {
	_, p, err := s.process(r.GetId(), r.GetExecId())
	if err != nil {
		return nil, err
	}
	select {
	case <-p.done:
		return &api.WaitResponse{ExitStatus: p.exit, ExitedAt: p.exitedAt()}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// State implements [api.TaskService].
func (s *Service) State(_ context.Context, r *api.StateRequest) (*api.StateResponse, error) {
	t, p, err := s.process(r.GetId(), r.GetExecId())
	if err != nil {
		return nil, err
	}
	if t.machine.over() {
		s.end(t, p, exitLost, time.Now()) // whoever watches it may not know yet
	}
	p.life.Lock()
	defer p.life.Unlock()
	return &api.StateResponse{
		Id: t.id, ExecId: p.exec, Bundle: t.blueprint.Bundle.Dir, Pid: t.pid(), Status: p.status,
		Stdin: p.stdio.Stdin, Stdout: p.stdio.Stdout, Stderr: p.stdio.Stderr, Terminal: p.stdio.Terminal,
		ExitStatus: p.exit, ExitedAt: p.exitedAt(),
	}, nil
}

// Kill implements [api.TaskService].
func (s *Service) Kill(ctx context.Context, r *api.KillRequest) (*emptypb.Empty, error) {
	t, p, err := s.process(r.GetId(), r.GetExecId())
	if err != nil {
		return nil, err
	}
	select {
	case <-p.done:
		return nil, errFinished
	default:
	}
	e, err := ask(ctx, t, answerGrace, r, t.guest.Kill)
	if r.GetSignal() == sigkill && status.Code(err) == codes.DeadlineExceeded {
		log.G(ctx).WithError(err).Errorf("the machine is killed with container %s", t.id)
		t.machine.kill()
		return &emptypb.Empty{}, nil
	}
	if status.Code(err) == codes.FailedPrecondition && p.hasRun() {
		err = errFinished // the guest knows before the shim does
	}
	return e, err
}

// errFinished is what containerd takes for "it is gone already": the end of a
// pod goes on.
var errFinished = status.Error(codes.NotFound, "process already finished")

// Pids implements [api.TaskService]. There is one process on the host that
// stands for all of the container's; their own pids are the guest's and mean
// nothing here.
func (s *Service) Pids(_ context.Context, r *api.PidsRequest) (*api.PidsResponse, error) {
	t, err := s.task(r.GetId())
	if err != nil {
		return nil, err
	}
	return &api.PidsResponse{Processes: []*api.ProcessInfo{{Pid: t.pid()}}}, nil
}

// Pause implements [api.TaskService].
func (s *Service) Pause(ctx context.Context, r *api.PauseRequest) (*emptypb.Empty, error) {
	t, err := s.task(r.GetId())
	if err != nil {
		return nil, err
	}
	e, err := ask(ctx, t, answerGrace, r, t.guest.Pause)
	if err == nil {
		t.init.turn(api.Status_RUNNING, api.Status_PAUSED)
		s.events.Send(runtime.TaskPausedEventTopic, &events.TaskPaused{ContainerID: t.id})
	}
	return e, err
}

// Resume implements [api.TaskService].
func (s *Service) Resume(ctx context.Context, r *api.ResumeRequest) (*emptypb.Empty, error) {
	t, err := s.task(r.GetId())
	if err != nil {
		return nil, err
	}
	e, err := ask(ctx, t, answerGrace, r, t.guest.Resume)
	if status.Code(err) == codes.FailedPrecondition && t.init.is(api.Status_PAUSED) {
		e, err = &emptypb.Empty{}, nil // it runs already, after a call whose answer came too late
	}
	if err == nil {
		t.init.turn(api.Status_PAUSED, api.Status_RUNNING)
		s.events.Send(runtime.TaskResumedEventTopic, &events.TaskResumed{ContainerID: t.id})
	}
	return e, err
}

// Checkpoint implements [api.TaskService].
func (s *Service) Checkpoint(context.Context, *api.CheckpointTaskRequest) (*emptypb.Empty, error) {
	return nil, status.Error(codes.Unimplemented, "checkpoint is not supported: a container's processes live in a guest")
}

// ResizePty implements [api.TaskService].
func (s *Service) ResizePty(ctx context.Context, r *api.ResizePtyRequest) (*emptypb.Empty, error) {
	t, _, err := s.process(r.GetId(), r.GetExecId())
	if err != nil {
		return nil, err
	}
	return ask(ctx, t, answerGrace, r, t.guest.ResizePty)
}

// CloseIO implements [api.TaskService].
func (s *Service) CloseIO(_ context.Context, r *api.CloseIORequest) (*emptypb.Empty, error) {
	_, p, err := s.process(r.GetId(), r.GetExecId())
	if err == nil && r.GetStdin() {
		err = asStatus(p.io.closeInput())
	}
	if err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, nil
}

// Update implements [api.TaskService].
func (s *Service) Update(ctx context.Context, r *api.UpdateTaskRequest) (*emptypb.Empty, error) {
	t, err := s.task(r.GetId())
	if err != nil {
		return nil, err
	}
	resources, err := api.Resources(r.GetResources())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	s.making.Lock()
	defer s.making.Unlock()
	if err := s.makeRoom(ctx, t, t.size.With(resources)); err != nil {
		return nil, asStatus(t.machine.explain(err))
	}
	inside, outside, err := t.blueprint.Update(resources, t.machine.memory)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	packed, err := api.NewResources(inside)
	if err != nil {
		return nil, asStatus(err)
	}
	e, err := ask(ctx, t, answerGrace, &api.UpdateTaskRequest{Id: t.id, Resources: packed}, t.guest.Update)
	if err == nil && t.shapes {
		t.machine.limit(ctx, outside)
	}
	return e, err
}
