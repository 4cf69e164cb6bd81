package container

import (
	"context"
	"errors"
	"fmt"

	"github.com/microvm/microvm/agent/api"
	"github.com/microvm/microvm/runtime/state"
)

// Pause freezes all processes of a container until Resume. SIGKILL ends them
// all the same, any other signal waits.
func (e *Engine) Pause(ctx context.Context, id string) error {
	return e.freeze(ctx, id, verbPause, func(ctx context.Context, agent *api.Client, d *state.Dir, s *state.State) error {
		// First the record: who dies in between leaves a container that can be
		// resumed, not one that is frozen and taken for running.
		before := s.Status
		s.PausedFrom, s.Status = before, transitions[verbPause].to
		if err := d.Save(s); err != nil {
			return err
		}
		_, err := agent.Task.Pause(ctx, &api.PauseRequest{Id: id})
		if err = agentError(err); err == nil || errors.Is(err, context.DeadlineExceeded) {
			return err // a guest that hangs may do it yet
		}
		s.PausedFrom, s.Status = "", before
		return errors.Join(err, d.Save(s))
	})
}

// Resume lets a paused container go on where it was.
func (e *Engine) Resume(ctx context.Context, id string) error {
	return e.freeze(ctx, id, verbResume, func(ctx context.Context, agent *api.Client, d *state.Dir, s *state.State) error {
		_, err := agent.Task.Resume(ctx, &api.ResumeRequest{Id: id})
		// One that was not frozen, or is not any more, is what a call has left
		// that died between the guest's answer and its record.
		if err = agentError(err); err != nil && !errors.Is(err, ErrState) {
			return err
		}
		s.Status, s.PausedFrom = s.PausedFrom, ""
		return d.Save(s)
	})
}

// freeze calls do for v with the state locked and a guest that can be reached.
func (e *Engine) freeze(ctx context.Context, id string, v verb, do func(context.Context, *api.Client, *state.Dir, *state.State) error) error {
	return e.locked(id, v, func(d *state.Dir, s *state.State) error {
		return e.ask(ctx, id, func(ctx context.Context, agent *api.Client) error {
			if err := do(ctx, agent, d, s); err != nil {
				return fmt.Errorf("%s container %s: %w", v, id, err)
			}
			return nil
		})
	})
}
