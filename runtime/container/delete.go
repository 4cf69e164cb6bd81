package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/runtime/state"
)

// How long the parts of a container may take to end before they are killed.
const (
	politeEnd = 20 * time.Second // the guest writes back and powers off
	hardEnd   = 10 * time.Second // a process that was sent SIGKILL
)

// Delete removes a container that has stopped or never started; with force it
// is killed first, in whatever state it is, and one that does not exist is no
// error.
func (e *Engine) Delete(ctx context.Context, id string, force bool) error {
	s, err := e.Store.Load(id)
	if errors.Is(err, state.ErrNotExist) {
		// Something may be left of a container that never was complete.
		if rerr := e.Store.RemoveBroken(id); rerr != nil {
			e.log(id).WithError(rerr).Debug("nothing to remove")
		}
		if force {
			return nil
		}
	}
	if err != nil {
		return err
	}
	if err := allow(verbDelete, s); err != nil && !force {
		return err
	}
	if err := e.end(ctx, s); err != nil {
		return err
	}
	if err := removeCgroup(s); err != nil {
		return fmt.Errorf("delete container %s: %w", id, err)
	}
	return e.remove(id)
}

// end makes sure that no process of the container is left.
func (e *Engine) end(ctx context.Context, s *state.State) error {
	if s.Monitor.Alive() {
		if err := e.endPolitely(ctx, s); err != nil {
			e.log(s.ID).WithError(err).Debug("container is killed with its machine")
		}
	}
	for _, p := range []state.Process{s.Monitor, s.VM} {
		if err := endHard(ctx, p); err != nil {
			return fmt.Errorf("delete container %s: %w", s.ID, err)
		}
	}
	return nil
}

// endPolitely kills the container's processes and waits until the monitor has
// taken the machine down.
func (e *Engine) endPolitely(ctx context.Context, s *state.State) error {
	ctx, cancel := context.WithTimeout(ctx, politeEnd)
	defer cancel()
	switch s.Current() {
	case "creating":
		// Its monitor cleans up behind itself.
		if err := s.Monitor.Signal(unix.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
	case "stopped":
	default:
		if err := e.killInGuest(ctx, s.ID, unix.SIGKILL, true); err != nil && !errors.Is(err, ErrState) {
			return err
		}
	}
	return s.Monitor.Wait(ctx)
}

// endHard kills p and waits for its end.
func endHard(ctx context.Context, p state.Process) error {
	err := p.Signal(unix.SIGKILL)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, hardEnd)
	defer cancel()
	if err := p.Wait(ctx); err != nil {
		return fmt.Errorf("process %d survives SIGKILL: %w", p.PID, err)
	}
	return nil
}
