package task

import (
	"cmp"
	"context"
	"os"

	"github.com/containerd/log"
	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/microvm/microvm/agent/api"
)

// prepare makes t's machine, if it is to have one of its own, that of a pod.
func (t *task) prepare() error {
	b := t.blueprint
	if !b.Bundle.IsSandbox() {
		return nil
	}
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	if b.Machine.Sysctls, err = b.Bundle.SharedSysctls(); err != nil {
		return err
	}
	b.Machine.MoreDisks = true
	b.Machine.Hostname = cmp.Or(b.Bundle.Spec.Hostname, host)
	return nil
}

// joinPod gives t in the guest what its pod has: settings of the network, and
// namespaces that are not the machine's own.
func (s *Service) joinPod(ctx context.Context, t *task) error {
	if s.sandbox != nil {
		t.blueprint.Plan.InheritSysctls(s.sandbox.blueprint.Bundle)
	}
	if held := t.blueprint.Bundle.Held(); len(held) > 0 {
		pid, err := s.namespaceHolder(ctx)
		if err != nil {
			return err
		}
		t.blueprint.Plan.Join(pid, held)
	}
	return s.joinTarget(t)
}

// joinTarget gives t the processes of the container of the pod that it names, if it
// names one.
func (s *Service) joinTarget(t *task) error {
	pid := t.blueprint.Bundle.Target()
	if pid == 0 {
		return nil
	}
	target := s.standFor(pid)
	if target == nil || target.init.over() {
		return status.Error(codes.FailedPrecondition, "the container whose processes are to be shared has ended: name one that runs")
	}
	t.blueprint.Plan.Join(target.guestPID, []specs.LinuxNamespaceType{specs.PIDNamespace})
	return nil
}

// namespaceHolder runs the sandbox's program in the guest after all, as the first
// process of the namespaces that the pod's containers share, and returns its pid
// there. It ends with the machine.
func (s *Service) namespaceHolder(ctx context.Context) (pid uint32, err error) {
	if s.holder != 0 {
		return s.holder, nil
	}
	t := s.sandbox
	if t == nil {
		return 0, status.Error(codes.FailedPrecondition, "the pod, whose namespaces the container is to share, has no sandbox")
	}
	if t.silent {
		t.blueprint.Plan.RunPause()
	}
	options, err := api.NewContainerOptions(t.blueprint.Plan.Guest)
	if err != nil {
		return 0, err
	}
	agent := t.machine.agent()
	made, err := ask(ctx, t, workGrace, &api.CreateTaskRequest{Id: t.id, Bundle: t.blueprint.Bundle.Dir, Rootfs: t.blueprint.Plan.Root, Options: options}, agent.Create)
	if err != nil {
		return 0, err
	}
	if _, err := ask(ctx, t, workGrace, &api.StartRequest{Id: t.id}, agent.Start); err != nil {
		return 0, err
	}
	s.holder = made.GetPid()
	return s.holder, nil
}

// sweep ends what the first process of t has left behind: all of a pod, or the
// processes of a container whose pid namespace goes on.
func (s *Service) sweep(ctx context.Context, t *task) {
	switch {
	case t.blueprint.Bundle.IsSandbox():
		t.machine.shutdown(ctx)
	case t.blueprint.Bundle.Joins(specs.PIDNamespace) && !t.machine.over():
		if _, err := ask(ctx, t, answerGrace, &api.KillRequest{Id: t.id, Signal: sigkill, All: true}, t.guest.Kill); err != nil {
			log.G(ctx).WithError(err).Debug("no process was left") // mostly
		}
	}
}
