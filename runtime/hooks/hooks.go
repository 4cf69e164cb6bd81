// Package hooks runs the hooks of an OCI configuration that belong to the host
// (runtime-spec, config.md, POSIX-platform Hooks): all but startContainer,
// which the guest runs in the container.
package hooks

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Kind is the name of a group of hooks in the configuration.
type Kind string

// The kinds that the host runs, in the order of a container's life.
const (
	Prestart        Kind = "prestart"
	CreateRuntime   Kind = "createRuntime"
	CreateContainer Kind = "createContainer"
	Poststart       Kind = "poststart"
	Poststop        Kind = "poststop"
)

// Of returns the hooks of a kind; h may be nil.
func Of(h *specs.Hooks, k Kind) []specs.Hook {
	if h == nil {
		return nil
	}
	switch k {
	case Prestart:
		//lint:ignore SA1019 docker still writes prestart hooks
		return h.Prestart
	case CreateRuntime:
		return h.CreateRuntime
	case CreateContainer:
		return h.CreateContainer
	case Poststart:
		return h.Poststart
	case Poststop:
		return h.Poststop
	}
	return nil
}

// AtCreate tells whether there are hooks that run before the container's process
// does; h may be nil.
func AtCreate(h *specs.Hooks) bool {
	return len(Of(h, Prestart))+len(Of(h, CreateRuntime))+len(Of(h, CreateContainer)) > 0
}

// Run calls the hooks of a kind one after the other with the container's state
// on their standard input, until one fails. All are waited for; one that takes
// longer than its timeout is killed.
func Run(ctx context.Context, h *specs.Hooks, k Kind, s specs.State) (err error) {
	return runIn(ctx, s.Bundle, h, k, s)
}

// runIn is Run in the directory dir.
func runIn(ctx context.Context, dir string, h *specs.Hooks, k Kind, s specs.State) (err error) {
	each(ctx, dir, h, k, s, func(failed error) bool {
		err = failed
		return false
	})
	return err
}

// RunAll is Run for hooks whose failure changes nothing: all are called, and
// each failure is handed to warn.
func RunAll(ctx context.Context, h *specs.Hooks, k Kind, s specs.State, warn func(error)) {
	each(ctx, s.Bundle, h, k, s, func(failed error) bool {
		warn(failed)
		return true
	})
}

// Create runs the hooks that set a container up from the outside: prestart and
// createRuntime where the caller is, createContainer in the root file system
// and through inside, which calls what it is given in the container's network
// namespace.
func Create(ctx context.Context, h *specs.Hooks, s specs.State, rootfs string, inside func(func() error) error) error {
	for _, k := range []Kind{Prestart, CreateRuntime} {
		if err := Run(ctx, h, k, s); err != nil {
			return err
		}
	}
	if len(Of(h, CreateContainer)) == 0 {
		return nil
	}
	return inside(func() error { return runIn(ctx, rootfs, h, CreateContainer, s) })
}

// each calls the hooks of a kind in the directory dir; goOn is told of each failure and says whether
// the next one is called.
func each(ctx context.Context, dir string, h *specs.Hooks, k Kind, s specs.State, goOn func(error) bool) {
	all := Of(h, k)
	if len(all) == 0 {
		return
	}
	state, err := json.Marshal(s)
	if err != nil {
		goOn(fmt.Errorf("encode state for hooks: %w", err))
		return
	}
	for i, hook := range all {
		if err := run(ctx, hook, dir, state); err != nil && !goOn(fmt.Errorf("error running %s hook #%d: %w", k, i, err)) {
			return
		}
	}
}

// leftovers is how long children of a hook may keep its output open.
const leftovers = time.Second

// maxOutput bounds what an error quotes of a hook's output, in bytes.
const maxOutput = 4096

// run calls a hook in the directory dir, or if there is none any more in the
// root: runc's hooks run in the bundle.
func run(ctx context.Context, hook specs.Hook, dir string, state []byte) error {
	if hook.Timeout != nil {
		var cancel context.CancelFunc
		limit := time.Duration(*hook.Timeout) * time.Second
		ctx, cancel = context.WithTimeoutCause(ctx, limit, fmt.Errorf("hook ran past specified timeout of %s", limit))
		defer cancel()
	}
	cmd := exec.CommandContext(ctx, hook.Path)
	if len(hook.Args) > 0 {
		cmd.Args = hook.Args
	}
	cmd.Env = hook.Env
	if cmd.Env == nil {
		cmd.Env = []string{} // nil would be this process's
	}
	if cmd.Dir = dir; !isDir(dir) {
		cmd.Dir = "/"
	}
	cmd.Stdin = bytes.NewReader(state)
	cmd.WaitDelay = leftovers
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay) && ctx.Err() == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", hook.Path, context.Cause(ctx))
	}
	return fmt.Errorf("%s: %w, stdout: %s, stderr: %s", hook.Path, err, tail(stdout.Bytes()), tail(stderr.Bytes()))
}

func isDir(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}

func tail(p []byte) []byte { return p[max(0, len(p)-maxOutput):] }
