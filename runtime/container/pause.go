package container

import (
	"context"
	"fmt"

	"github.com/microvm/microvm/agent/api"
	"github.com/microvm/microvm/runtime/state"
)

// Pause freezes all processes of a container until Resume. SIGKILL ends them
// all the same, any other signal waits.
func (e *Engine) Pause(ctx context.Context, id string) error {
	return e.freeze(ctx, id, verbPause, func(ctx context.Context, agent *api.Client, s *state.State) error {
		if _, err := agent.Task.Pause(ctx, &api.PauseRequest{Id: id}); err != nil {
			return err
		}
		s.PausedFrom, s.Status = s.Status, transitions[verbPause].to
		return nil
	})
}

// Resume lets a paused container go on where it was.
func (e *Engine) Resume(ctx context.Context, id string) error {
	return e.freeze(ctx, id, verbResume, func(ctx context.Context, agent *api.Client, s *state.State) error {
		if _, err := agent.Task.Resume(ctx, &api.ResumeRequest{Id: id}); err != nil {
			return err
		}
		s.Status, s.PausedFrom = s.PausedFrom, ""
		return nil
	})
}

// freeze does v with the state locked, and records what do made of the state
// only if the guest obeyed.
func (e *Engine) freeze(ctx context.Context, id string, v verb, do func(context.Context, *api.Client, *state.State) error) error {
	return e.locked(id, v, func(d *state.Dir, s *state.State) error {
		err := e.ask(ctx, id, func(ctx context.Context, agent *api.Client) error {
			if err := do(ctx, agent, s); err != nil {
				return fmt.Errorf("%s container %s: %w", v, id, agentError(err))
			}
			return nil
		})
		if err != nil {
			return err
		}
		return d.Save(s)
	})
}
