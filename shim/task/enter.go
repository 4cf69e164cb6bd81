package task

import (
	"context"

	"github.com/containerd/log"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// enter gives t its machine: a new one, or the pod's with t's exports.
func (s *Service) enter(ctx context.Context, t *task) (err error) {
	if s.machine != nil {
		return s.visit(ctx, t)
	}
	if err := t.prepare(); err != nil {
		return err
	}
	if t.machine, err = launch(ctx, t.blueprint); err != nil {
		return err
	}
	if err = t.runCreateHooks(ctx); err == nil {
		err = t.machine.vm.Boot(ctx)
	}
	if err == nil {
		t.machine.net.UseNames(t.blueprint.Bundle)
		err = t.machine.net.Connect(ctx, t.machine.vm)
	}
	if err != nil {
		t.machine.kill()
		return err
	}
	t.machine.limit(ctx, t.blueprint.HostLimits())
	s.machine = t.machine
	return nil
}

// visit puts t into its pod's machine.
func (s *Service) visit(ctx context.Context, t *task) error {
	if len(t.blueprint.Machine.Disks) > 0 {
		return status.Error(codes.Unimplemented, "block devices and mounts of file systems on them are not supported in a pod, whose machine runs already")
	}
	t.machine = s.machine
	for i, x := range t.blueprint.Machine.Exports {
		if err := t.machine.vm.AddExport(ctx, x); err != nil {
			t.withdraw(ctx, i)
			return t.machine.explain(err)
		}
	}
	if err := t.runCreateHooks(ctx); err != nil {
		s.leave(ctx, t, false)
		return err
	}
	return nil
}

// withdraw takes the first n of t's exports away.
func (t *task) withdraw(ctx context.Context, n int) {
	for _, x := range t.blueprint.Machine.Exports[:n] {
		if err := t.machine.vm.RemoveExport(ctx, x.Name); err != nil {
			log.G(ctx).WithError(err).Warn("export is left in the machine")
		}
	}
}

// leave takes t's exports away, or ends the machine.
func (s *Service) leave(ctx context.Context, t *task, last bool) {
	if last {
		t.machine.shutdown(ctx)
		s.machine, s.sandbox, s.holder = nil, nil, 0
		return
	}
	if !t.machine.over() {
		t.withdraw(ctx, len(t.blueprint.Machine.Exports))
	}
}
