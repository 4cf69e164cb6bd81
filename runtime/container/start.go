package container

import (
	"context"
	"errors"
	"fmt"

	"github.com/microvm/microvm/agent/api"
	"github.com/microvm/microvm/runtime/state"
)

// Start lets a created container's process run. If a hook fails afterwards, the
// container is stopped, and Start fails.
func (e *Engine) Start(ctx context.Context, id string) error {
	var started *state.State
	err := e.locked(id, verbStart, func(d *state.Dir, s *state.State) error {
		started = s
		return e.start(ctx, d, s)
	})
	if err != nil {
		return err
	}
	if err := runPoststart(ctx, started); err != nil {
		return errors.Join(err, e.endPolitely(ctx, started))
	}
	return nil
}

// start records the new status first: a process that runs while the state says
// "created" could be deleted as if it did not.
func (e *Engine) start(ctx context.Context, d *state.Dir, s *state.State) error {
	agent, err := e.dialAgent(ctx, s.ID)
	if err != nil {
		return err
	}
	defer agent.Close()
	e.awaitNetwork(ctx, s)
	before := s.Status
	s.Status = transitions[verbStart].to
	if err := d.Save(s); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, workGrace)
	defer cancel()
	if _, err := agent.Task.Start(ctx, &api.StartRequest{Id: s.ID}); err != nil {
		s.Status = before
		if serr := d.Save(s); serr != nil {
			return fmt.Errorf("%w (and then: %w)", agentError(err), serr)
		}
		return agentError(err)
	}
	return nil
}
