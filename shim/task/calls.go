package task

import (
	"context"

	"github.com/containerd/containerd/api/events"
	"github.com/containerd/containerd/v2/core/runtime"
	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/microvm/microvm/agent/api"
	"github.com/microvm/microvm/runtime/bundle"
	"github.com/microvm/microvm/runtime/hooks"
)

// Start implements [api.TaskService].
func (s *Service) Start(ctx context.Context, r *api.StartRequest) (*api.StartResponse, error) {
	t, p, err := s.process(r.GetId(), r.GetExecId())
	if err != nil {
		return nil, err
	}
	if err := s.start(ctx, t, p, r); err != nil {
		return nil, asStatus(err)
	}
	if p.exec == "" {
		t.runLateHooks(ctx, hooks.Poststart, specs.StateRunning)
	}
	return &api.StartResponse{Pid: t.machine.pid()}, nil
}

// start holds back the process's exit until its start is made known.
func (s *Service) start(ctx context.Context, t *task, p *process, r *api.StartRequest) error {
	p.life.Lock()
	defer p.life.Unlock()
	if p.started {
		return status.Errorf(codes.FailedPrecondition, "process %s was started already", p.eventID())
	}
	if _, err := t.machine.agent().Start(ctx, r); err != nil {
		return err
	}
	p.started, p.status = true, api.Status_RUNNING
	if p.exec == "" {
		s.events.Send(runtime.TaskStartEventTopic, &events.TaskStart{ContainerID: t.id, Pid: t.machine.pid()})
		return nil
	}
	s.events.Send(runtime.TaskExecStartedEventTopic, &events.TaskExecStarted{ContainerID: t.id, ExecID: p.exec, Pid: t.machine.pid()})
	go s.watch(t.machine, p)
	return nil
}

// Exec implements [api.TaskService].
func (s *Service) Exec(ctx context.Context, r *api.ExecProcessRequest) (*emptypb.Empty, error) {
	t, err := s.task(r.GetId())
	if err != nil {
		return nil, err
	}
	if _, err := t.process(r.GetExecId()); err == nil {
		return nil, status.Errorf(codes.AlreadyExists, "exec %s already exists in container %s", r.GetExecId(), t.id)
	}
	if err := t.addExec(ctx, r); err != nil {
		return nil, asStatus(err)
	}
	s.events.Send(runtime.TaskExecAddedEventTopic, &events.TaskExecAdded{ContainerID: t.id, ExecID: r.GetExecId()})
	return &emptypb.Empty{}, nil
}

func (t *task) addExec(ctx context.Context, r *api.ExecProcessRequest) error {
	spec, err := api.ProcessSpec(r.GetSpec())
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	spec.Terminal = r.GetTerminal()
	packed, err := api.NewProcessSpec(bundle.GuestProcess(spec))
	if err != nil {
		return err
	}
	names := stdioNames{r.GetStdin(), r.GetStdout(), r.GetStderr(), r.GetTerminal()}
	io, err := openStreams(ctx, t.machine.vm, t.id, names)
	if err != nil {
		return err
	}
	_, err = t.machine.agent().Exec(ctx, &api.ExecProcessRequest{
		Id: t.id, ExecId: r.GetExecId(), Terminal: r.GetTerminal(),
		Stdin: io.guest.Stdin, Stdout: io.guest.Stdout, Stderr: io.guest.Stderr, Spec: packed,
	})
	if err == nil {
		err = io.flow()
	}
	if err != nil {
		io.close()
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.execs[r.GetExecId()] = newProcess(t.id, r.GetExecId(), names, io)
	return nil
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
func (s *Service) State(ctx context.Context, r *api.StateRequest) (*api.StateResponse, error) {
	t, p, err := s.process(r.GetId(), r.GetExecId())
	if err != nil {
		return nil, err
	}
	p.life.Lock()
	defer p.life.Unlock()
	st := p.status
	if p.exec == "" && st == api.Status_RUNNING {
		// Only the guest knows whether it is paused.
		if guest, err := t.machine.agent().State(ctx, r); err == nil && guest.GetStatus() == api.Status_PAUSED {
			st = api.Status_PAUSED
		}
	}
	return &api.StateResponse{
		Id: t.id, ExecId: p.exec, Bundle: t.blueprint.Bundle.Dir, Pid: t.machine.pid(), Status: st,
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
		// What containerd takes for "it is gone already".
		return nil, status.Error(codes.NotFound, "process already finished")
	default:
	}
	return forward(ctx, r, t.machine.agent().Kill)
}

// forward makes a call of the agent.
func forward[R, A any](ctx context.Context, r R, call func(context.Context, R) (A, error)) (A, error) {
	a, err := call(ctx, r)
	return a, asStatus(err)
}

// Pids implements [api.TaskService]. The pids are the guest's.
func (s *Service) Pids(ctx context.Context, r *api.PidsRequest) (*api.PidsResponse, error) {
	t, err := s.task(r.GetId())
	if err != nil {
		return nil, err
	}
	return forward(ctx, r, t.machine.agent().Pids)
}

// Pause implements [api.TaskService].
func (s *Service) Pause(ctx context.Context, r *api.PauseRequest) (*emptypb.Empty, error) {
	t, err := s.task(r.GetId())
	if err != nil {
		return nil, err
	}
	e, err := forward(ctx, r, t.machine.agent().Pause)
	if err == nil {
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
	e, err := forward(ctx, r, t.machine.agent().Resume)
	if err == nil {
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
	return forward(ctx, r, t.machine.agent().ResizePty)
}

// CloseIO implements [api.TaskService].
func (s *Service) CloseIO(_ context.Context, r *api.CloseIORequest) (*emptypb.Empty, error) {
	_, p, err := s.process(r.GetId(), r.GetExecId())
	if err != nil {
		return nil, err
	}
	if r.GetStdin() {
		// What is in the fifo still goes to the process.
		p.io.closeInput()
	}
	return &emptypb.Empty{}, nil
}

// Update implements [api.TaskService].
func (s *Service) Update(ctx context.Context, r *api.UpdateTaskRequest) (*emptypb.Empty, error) {
	t, err := s.task(r.GetId())
	if err != nil {
		return nil, err
	}
	return forward(ctx, r, t.machine.agent().Update)
}

// Stats implements [api.TaskService].
func (s *Service) Stats(ctx context.Context, r *api.StatsRequest) (*api.StatsResponse, error) {
	t, err := s.task(r.GetId())
	if err != nil {
		return nil, err
	}
	return forward(ctx, r, t.machine.agent().Stats)
}
