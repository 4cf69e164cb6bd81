package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/runtime/sandbox"
	"github.com/microvm/microvm/runtime/stdio"
)

// CreateRequest asks for a new container.
type CreateRequest struct {
	ID string
	// Bundle is the bundle's directory.
	Bundle string
	// ConsoleSocket is the path of a unix socket that takes the terminal.
	ConsoleSocket string
	// PIDFile takes the pid of the container's monitor.
	PIDFile string
	// PidfdSocket is the path of a unix socket that takes a pidfd of it.
	PidfdSocket string
	// Start lets the process run, without a call of Start.
	Start bool
	// Keep leaves a foreground container's state when it has ended.
	Keep bool
	// TimelineFile takes a foreground container's timeline as JSON.
	TimelineFile string
	// Zero is the timeline's, a time of sandbox.Now.
	Zero int64
}

// Create makes a container with a monitor of its own, in the background. With
// Start it runs when this returns. Nothing is left of it on failure.
func (e *Engine) Create(ctx context.Context, r CreateRequest) error {
	if err := r.complete(); err != nil {
		return err
	}
	pid, err := e.spawn(ctx, monitorRequest{Container: &r}, r.ConsoleSocket != "")
	if errors.Is(err, errNoReport) {
		return e.blameHost(r.ID, err)
	}
	if err != nil {
		return err
	}
	if err := r.announce(pid); err != nil {
		if derr := e.Delete(ctx, r.ID, true); derr != nil {
			e.log(r.ID).WithError(derr).Warn("container could not be removed")
		}
		return err
	}
	return nil
}

// Run makes a container, runs its process with the streams of this process,
// and returns its exit code when it has ended. This process is the monitor. A
// code with an error means that the machine broke down while it ran.
func (e *Engine) Run(ctx context.Context, r CreateRequest) (code int, err error) {
	r.Start = true
	if err := r.complete(); err != nil {
		return -1, err
	}
	s := &supervisor{engine: e, request: r, foreground: true, timeline: sandbox.NewTimeline(r.Zero)}
	return s.run(ctx, func() error { return r.announce(os.Getpid()) })
}

// complete makes paths absolute.
func (r *CreateRequest) complete() (err error) {
	for _, p := range []*string{&r.Bundle, &r.ConsoleSocket, &r.PIDFile, &r.PidfdSocket, &r.TimelineFile} {
		if *p == "" && p != &r.Bundle {
			continue
		}
		if *p, err = filepath.Abs(*p); err != nil {
			return err
		}
	}
	return nil
}

// announce tells which process stands for the container.
func (r *CreateRequest) announce(pid int) error {
	if err := writePIDFile(r.PIDFile, pid); err != nil {
		return err
	}
	return stdio.SendPidfd(r.PidfdSocket, stdio.PidfdInit, pid)
}

// writePIDFile writes pid atomically, as runc does; an empty path is nothing to
// do.
func writePIDFile(path string, pid int) error {
	if path == "" {
		return nil
	}
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path))
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return fmt.Errorf("write pid file: %w", err)
	}
	_, err = f.WriteString(strconv.Itoa(pid))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		os.Remove(tmp)
		return fmt.Errorf("write pid file: %w", err)
	}
	return nil
}
