package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const monitorVariable = "MICROVM_TEST_SIGNALS"

// TestBrokenStderrDoesNotEndTheMonitor runs this test binary with nobody
// reading its stderr.
func TestBrokenStderrDoesNotEndTheMonitor(t *testing.T) {
	if os.Getenv(monitorVariable) != "" {
		newForwarder(func(error) {})
		_, err := fmt.Fprintln(os.Stderr, "a log line")
		if !errors.Is(err, unix.EPIPE) {
			os.Exit(1)
		}
		os.Exit(42)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	defer w.Close()
	cmd := exec.Command(os.Args[0], "-test.run", t.Name())
	cmd.Env = append(os.Environ(), monitorVariable+"=1")
	cmd.Stderr = w
	var exit *exec.ExitError
	if err := cmd.Run(); !errors.As(err, &exit) || exit.ExitCode() != 42 {
		t.Errorf("ended with %v", err)
	}
}

func TestSignalsBeforeTheProcessEndTheStart(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	f := &forwarder{signals: make(chan os.Signal, signalBuffer), cancel: cancel}
	done := make(chan struct{})
	go func() { defer close(done); f.run() }()
	f.signals <- unix.SIGPIPE
	f.signals <- unix.SIGUSR1
	select {
	case <-ctx.Done():
		t.Error("a harmless signal ended the start")
	case <-time.After(20 * time.Millisecond):
	}
	f.signals <- unix.SIGTERM
	<-ctx.Done()
	if cause := context.Cause(ctx); cause != (signalError{unix.SIGTERM}) || cause.Error() != "interrupted by signal 15 (SIGTERM)" {
		t.Error(cause)
	}
	close(f.signals)
	<-done
}
