package task

import (
	"context"

	"github.com/containerd/containerd/api/events"
	"github.com/containerd/containerd/v2/core/runtime"
	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/microvm/microvm/agent/api"
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
	return &api.StartResponse{Pid: t.pid()}, nil
}

// start holds back the process's exit until its start is made known.
func (s *Service) start(ctx context.Context, t *task, p *process, r *api.StartRequest) error {
	p.life.Lock()
	defer p.life.Unlock()
	if p.started || p.status == api.Status_STOPPED {
		return status.Errorf(codes.FailedPrecondition, "process %s was started already", p.eventID())
	}
	if err := p.io.admit(); err != nil {
		return err
	}
	if p.exec == "" {
		t.machine.net.CatchUp(ctx, t.machine.vm)
	}
	if _, err := ask(ctx, t, workGrace, r, t.guest.Start); err != nil {
		return err
	}
	p.started, p.status = true, api.Status_RUNNING
	if p.exec == "" {
		s.events.Send(runtime.TaskStartEventTopic, &events.TaskStart{ContainerID: t.id, Pid: t.pid()})
		return nil
	}
	s.events.Send(runtime.TaskExecStartedEventTopic, &events.TaskExecStarted{ContainerID: t.id, ExecID: p.exec, Pid: t.pid()})
	go s.watch(t, p)
	return nil
}
