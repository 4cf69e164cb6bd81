package container

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/agent/api"
	"github.com/microvm/microvm/runtime/sandbox"
	"github.com/microvm/microvm/runtime/state"
)

// How long a guest may take before it counts as hung.
const (
	// answerGrace is for a short call.
	answerGrace = 10 * time.Second
	// workGrace is for calls that make processes, in an emulated machine on a
	// busy host.
	workGrace = 2 * time.Minute
)

// Kill sends a signal to a container's process, or with all to every process
// in it. SIGKILL also works when the guest hangs: then it ends the machine.
func (e *Engine) Kill(ctx context.Context, id string, sig unix.Signal, all bool) error {
	s, err := e.Store.Load(id)
	if err != nil {
		return err
	}
	if err := allow(verbKill, s); err != nil {
		return err
	}
	err = e.killInGuest(ctx, id, sig, all)
	hung := errors.Is(err, context.DeadlineExceeded) || errors.Is(err, sandbox.ErrUnreachable) || isLost(err)
	switch {
	case errors.Is(err, state.ErrNotExist), errors.Is(err, ErrState):
		return inClass(state.ErrNotRunning, ErrState) // it has just ended
	case hung && s.Current() != s.Status:
		return inClass(state.ErrNotRunning, ErrState)
	case hung && sig == unix.SIGKILL && s.In != "":
		return fmt.Errorf("its machine, that of container %s, does not answer: kill that one: %w", s.In, err)
	case hung && sig == unix.SIGKILL:
		return s.VM.Signal(unix.SIGKILL)
	}
	return err
}

func (e *Engine) killInGuest(ctx context.Context, id string, sig unix.Signal, all bool) error {
	return e.ask(ctx, id, func(ctx context.Context, agent *api.Client) error {
		_, err := agent.Task.Kill(ctx, &api.KillRequest{Id: id, Signal: uint32(sig), All: all})
		return agentError(err)
	})
}

// ask makes a short call of the agent of a container's machine.
func (e *Engine) ask(ctx context.Context, id string, call func(context.Context, *api.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, answerGrace)
	defer cancel()
	agent, err := e.dialAgent(ctx, id)
	if err != nil {
		return err
	}
	defer agent.Close()
	return call(ctx, agent)
}
