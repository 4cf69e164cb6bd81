package task

import (
	"context"
	"time"

	"github.com/containerd/containerd/api/events"
	"github.com/containerd/containerd/v2/core/runtime"
	"github.com/containerd/log"
	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/microvm/microvm/agent/api"
	"github.com/microvm/microvm/runtime/hooks"
)

// Delete implements [api.TaskService].
func (s *Service) Delete(ctx context.Context, r *api.DeleteRequest) (*api.DeleteResponse, error) {
	if r.GetExecId() == "" {
		s.making.Lock()
		defer s.making.Unlock()
	}
	t, p, err := s.process(r.GetId(), r.GetExecId())
	if err != nil {
		return nil, err
	}
	if err := p.deletable(); err != nil {
		return nil, err
	}
	if err := p.io.drain(); err != nil && p.started {
		log.G(ctx).WithError(err).Warn("output is incomplete")
	}
	p.io.close()
	// A machine that is gone has forgotten everything.
	if _, err := ask(ctx, t, workGrace, r, t.guest.Delete); err != nil {
		log.G(ctx).WithError(err).Debug("the agent did not delete the process")
	}
	s.end(t, p, exitLost, time.Now()) // if it never started
	if p.exec != "" {
		t.mu.Lock()
		delete(t.execs, p.exec)
		t.mu.Unlock()
	} else if err := s.remove(ctx, t); err != nil {
		return nil, asStatus(err)
	}
	return &api.DeleteResponse{Pid: t.pid(), ExitStatus: p.exit, ExitedAt: p.exitedAt()}, nil
}

// deletable refuses a process that runs.
func (p *process) deletable() error {
	p.life.Lock()
	defer p.life.Unlock()
	if p.status == api.Status_STOPPED || p.status == api.Status_CREATED {
		return nil
	}
	return status.Errorf(codes.FailedPrecondition, "process %s has not stopped: kill it first", p.eventID())
}

// remove removes all that is on the host of a container whose process has
// ended.
func (s *Service) remove(ctx context.Context, t *task) error {
	s.mu.Lock()
	delete(s.containers, t.id)
	last := len(s.containers) == 0
	s.mu.Unlock()
	s.leave(ctx, t, last)
	if err := unmountRoot(t.blueprint.Bundle.Dir); err != nil {
		return err
	}
	t.runLateHooks(ctx, hooks.Poststop, specs.StateStopped)
	if t.silent {
		return nil
	}
	p := t.init
	s.events.Send(runtime.TaskDeleteEventTopic, &events.TaskDelete{
		ContainerID: t.id, Pid: t.pid(), ExitStatus: p.exit, ExitedAt: p.exitedAt(),
	})
	return nil
}
