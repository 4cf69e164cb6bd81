package container

import (
	"errors"

	"github.com/microvm/microvm/runtime/state"
)

// withState calls do with a container's state locked.
func (e *Engine) withState(id string, do func(*state.Dir, *state.State) error) error {
	d, err := e.Store.Open(id)
	if err != nil {
		return err
	}
	defer d.Close()
	s, err := d.Load()
	if err != nil {
		return err
	}
	return do(d, s)
}

// update changes a container's state under its lock.
func (e *Engine) update(id string, change func(*state.State)) error {
	return e.withState(id, func(d *state.Dir, s *state.State) error {
		change(s)
		return d.Save(s)
	})
}

// settle waits until nobody works on a container under its lock.
func (e *Engine) settle(id string) {
	if d, err := e.Store.Open(id); err == nil {
		d.Close()
	}
}

// locked is withState, if v is legal for the container now.
func (e *Engine) locked(id string, v verb, do func(*state.Dir, *state.State) error) error {
	return e.withState(id, func(d *state.Dir, s *state.State) error {
		if err := allow(v, s); err != nil {
			return err
		}
		return do(d, s)
	})
}

// remove removes a container's directory, if it is there, and runs the hooks
// that come last.
func (e *Engine) remove(id string) error {
	d, err := e.Store.Open(id)
	if errors.Is(err, state.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	s, err := d.Load()
	if err := errors.Join(err, d.Remove()); err != nil {
		return err
	}
	e.runPoststop(s)
	return nil
}
