package container

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/microvm/microvm/agent/api"
	"github.com/microvm/microvm/runtime/bundle"
	"github.com/microvm/microvm/runtime/state"
)

// Update changes limits of a container; what r leaves out stays as it is.
func (e *Engine) Update(ctx context.Context, id string, r *specs.LinuxResources) error {
	if err := checkUpdate(r); err != nil {
		return err
	}
	resources, err := api.NewResources(bundle.GuestResources(r))
	if err != nil {
		return err
	}
	return e.locked(id, verbUpdate, func(d *state.Dir, s *state.State) error {
		err := e.ask(ctx, id, func(ctx context.Context, agent *api.Client) error {
			if err := e.growFor(ctx, agent, s, bundle.Size{Memory: bundle.SizeOf(r).Memory}); err != nil { // its CPUs stay
				return fmt.Errorf("update container %s: %w", id, err)
			}
			_, err := agent.Task.Update(ctx, &api.UpdateTaskRequest{Id: id, Resources: resources})
			return agentError(err)
		})
		if err != nil {
			return err
		}
		if err := e.limitMachine(s, r); err != nil {
			return fmt.Errorf("update container %s, in the guest all is changed: %w", id, err)
		}
		return d.Save(s)
	})
}

// growFor makes the machine of s, which is locked, large enough for want.
func (e *Engine) growFor(ctx context.Context, agent *api.Client, s *state.State, want bundle.Size) error {
	if s.In != "" {
		return e.growHost(ctx, s.In, agent, want)
	}
	memory, err := Memory{s.Memory, s.Grown}.Grow(ctx, agent, want)
	s.Grown = memory.Grown
	return err
}

// checkUpdate refuses what a machine can't do while it runs.
func checkUpdate(r *specs.LinuxResources) error {
	if c := r.CPU; c != nil && (c.RealtimeRuntime != nil || c.RealtimePeriod != nil) {
		return errors.New("update: cpu.realtimeRuntime and cpu.realtimePeriod: the guest's kernel has no limits of real-time scheduling")
	}
	if r.Devices != nil {
		return errors.New("update: device rules cannot be changed while a container runs")
	}
	return nil
}
