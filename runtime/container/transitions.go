package container

import (
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/microvm/microvm/runtime/state"
)

// verb is what is done to an existing container.
type verb string

const (
	verbStart  verb = "start"
	verbKill   verb = "kill"
	verbExec   verb = "exec"
	verbDelete verb = "delete"
	verbPause  verb = "pause"
	verbResume verb = "resume"
	verbUpdate verb = "update"
	verbEvents verb = "events"
)

// rule is one row of the table of legal transitions.
type rule struct {
	from []specs.ContainerState // where the verb is legal
	to   specs.ContainerState   // what it leads to, "" for no change or, with resume, State.PausedFrom
	// refuse makes the error for any other state, with runc's words.
	refuse func(id string, s specs.ContainerState) error
}

// alive are the states of a container that there is something of in a guest.
var alive = []specs.ContainerState{specs.StateCreated, specs.StateRunning, state.StatusPaused}

// transitions holds every legal one that a caller can ask for. Those that
// nobody asks for are the monitor's: creating to created, and any to stopped.
var transitions = map[verb]rule{
	verbStart: {
		from: []specs.ContainerState{specs.StateCreated},
		to:   specs.StateRunning,
		refuse: func(_ string, s specs.ContainerState) error {
			switch s {
			case specs.StateStopped:
				return errors.New("cannot start a container that has stopped")
			case specs.StateRunning:
				return errors.New("cannot start an already running container")
			}
			return fmt.Errorf("cannot start a container in the %s state", s)
		},
	},
	verbKill: {
		from:   alive,
		refuse: func(string, specs.ContainerState) error { return state.ErrNotRunning },
	},
	verbExec: {
		from: []specs.ContainerState{specs.StateCreated, specs.StateRunning},
		refuse: func(_ string, s specs.ContainerState) error {
			if s == specs.StateStopped {
				return fmt.Errorf("cannot exec in a stopped container: %w", state.ErrNotRunning)
			}
			if s == state.StatusPaused {
				return errors.New("cannot exec in a paused container (use --ignore-paused to override)")
			}
			return fmt.Errorf("cannot exec in a %s container", s)
		},
	},
	verbDelete: {
		from: []specs.ContainerState{specs.StateCreated, specs.StateStopped},
		refuse: func(id string, s specs.ContainerState) error {
			return fmt.Errorf("cannot delete container %s that is not stopped: %s", id, s)
		},
	},
	verbPause: {
		from:   []specs.ContainerState{specs.StateCreated, specs.StateRunning},
		to:     state.StatusPaused,
		refuse: func(string, specs.ContainerState) error { return state.ErrNotRunning },
	},
	verbResume: {
		from:   []specs.ContainerState{state.StatusPaused},
		refuse: func(string, specs.ContainerState) error { return errors.New("container not paused") },
	},
	verbUpdate: {
		from:   alive,
		refuse: func(string, specs.ContainerState) error { return state.ErrNotRunning },
	},
	verbEvents: {
		from: alive,
		refuse: func(id string, _ specs.ContainerState) error {
			return fmt.Errorf("container with id %s is not running", id)
		},
	},
}

// allow returns an error of class ErrState if v is illegal for s now.
func allow(v verb, s *state.State) error {
	r, now := transitions[v], s.Current()
	if slices.Contains(r.from, now) {
		return nil
	}
	return inClass(r.refuse(s.ID, now), ErrState)
}
