package container

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/microvm/microvm/agent/api"
	"github.com/microvm/microvm/runtime/bundle"
)

// Update changes limits of a container; what r leaves out stays as it is.
func (e *Engine) Update(ctx context.Context, id string, r *specs.LinuxResources) error {
	s, err := e.Store.Load(id)
	if err != nil {
		return err
	}
	if err := allow(verbUpdate, s); err != nil {
		return err
	}
	if err := checkUpdate(id, s.Memory, r); err != nil {
		return err
	}
	resources, err := api.NewResources(bundle.GuestResources(r))
	if err != nil {
		return err
	}
	err = e.ask(ctx, id, func(ctx context.Context, agent *api.Client) error {
		_, err := agent.Task.Update(ctx, &api.UpdateTaskRequest{Id: id, Resources: resources})
		return agentError(err)
	})
	if err != nil {
		return err
	}
	if err := e.limitMachine(s, r); err != nil {
		return fmt.Errorf("update container %s, in the guest all is changed: %w", id, err)
	}
	return nil
}

// checkUpdate refuses what a machine with so many bytes of memory can't do while
// it runs.
func checkUpdate(id string, machine uint64, r *specs.LinuxResources) error {
	if m := r.Memory; m != nil && m.Limit != nil && *m.Limit > 0 && machine != 0 {
		if most := mostOf(machine); uint64(*m.Limit) > most {
			return fmt.Errorf("update memory limit of container %s: %d bytes are more than the %d that its machine, which was started with %d, can give: make the container anew with a higher limit or the annotation io.microvm.memory", id, *m.Limit, most, machine)
		}
	}
	if c := r.CPU; c != nil && (c.RealtimeRuntime != nil || c.RealtimePeriod != nil) {
		return errors.New("update: cpu.realtimeRuntime and cpu.realtimePeriod: the guest's kernel has no limits of real-time scheduling")
	}
	if r.Devices != nil {
		return errors.New("update: device rules cannot be changed while a container runs")
	}
	return nil
}
