package container

import (
	"context"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/microvm/microvm/runtime/anchor"
	"github.com/microvm/microvm/runtime/hooks"
	"github.com/microvm/microvm/runtime/state"
)

// ociState is what hooks are told about a container (runtime-spec, runtime.md,
// State).
func ociState(s *state.State, status specs.ContainerState) specs.State {
	o := specs.State{
		Version: s.OCIVersion, ID: s.ID, Status: status, Pid: s.Monitor.PID, Bundle: s.Bundle, Annotations: s.Annotations,
	}
	if status == specs.StateStopped {
		o.Pid = 0
	}
	return o
}

// runCreateHooks runs the hooks that set a container up from the outside, in
// the host's namespaces, while the machine boots. createContainer hooks are in
// the container's network namespace; its other namespaces are the guest's.
func (s *supervisor) runCreateHooks(ctx context.Context) error {
	return hooks.Create(ctx, s.design.bundle.Spec.Hooks, ociState(&s.state, specs.StateCreating), s.state.Rootfs, anchor.Do)
}

// runPoststart runs the hooks that follow the start of a container's process.
// After an error the caller has to stop the container.
func runPoststart(ctx context.Context, s *state.State) error {
	return hooks.Run(ctx, s.Hooks, hooks.Poststart, ociState(s, specs.StateRunning))
}

// runPoststop runs the hooks that follow a container's removal.
func (e *Engine) runPoststop(s *state.State) {
	hooks.RunAll(context.Background(), s.Hooks, hooks.Poststop, ociState(s, specs.StateStopped), e.warnHook(s.ID))
}

func (e *Engine) warnHook(id string) func(error) {
	return func(err error) { e.log(id).Warn(err) }
}
