package task

import (
	"context"

	"github.com/containerd/log"
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
		err = t.machine.connect(ctx)
	}
	if err != nil {
		t.machine.kill()
		return err
	}
	t.machine.limit(ctx, t.blueprint.HostLimits(t.machine.memory))
	s.machine = t.machine
	return nil
}

// visit puts t into its pod's machine.
func (s *Service) visit(ctx context.Context, t *task) (err error) {
	t.machine = s.machine
	if err := s.makeRoom(ctx, t, t.blueprint.Plan.Size); err != nil {
		return t.machine.explain(err)
	}
	shared, vm := &t.machine.shared, t.machine.vm
	for _, d := range t.blueprint.Machine.Disks {
		if err := shared.AddDisk(ctx, vm, &t.use, d); err != nil {
			t.withdraw(ctx)
			return t.machine.explain(err)
		}
	}
	for _, x := range t.blueprint.Machine.Exports {
		name, err := shared.AddExport(ctx, vm, &t.use, x, t.blueprint.Plan.Mounts(x.Name))
		if err != nil {
			t.withdraw(ctx)
			return t.machine.explain(err)
		}
		t.blueprint.Plan.Remount(x.Name, name)
	}
	if t.stand, err = newStand(t.blueprint.Bundle, int(t.machine.pid())); err == nil {
		err = t.runCreateHooks(ctx)
	}
	if err != nil {
		s.leave(ctx, t, false)
	}
	return t.machine.explain(err)
}

// withdraw takes t's exports and disks away.
func (t *task) withdraw(ctx context.Context) {
	if err := t.machine.shared.Drop(ctx, t.machine.vm, &t.use); err != nil {
		log.G(ctx).WithError(err).Warn("exports or disks are left in the machine")
	}
}

// leave takes t's stand, exports and disks away, or ends the machine.
func (s *Service) leave(ctx context.Context, t *task, last bool) {
	if err := t.stand.leave(); err != nil {
		log.G(ctx).WithError(err).Warn("what stood for the container on the host is left")
	}
	if last {
		t.machine.shutdown(ctx)
		s.machine, s.sandbox, s.holder = nil, nil, 0
		return
	}
	if !t.machine.over() {
		t.withdraw(ctx)
	}
}
