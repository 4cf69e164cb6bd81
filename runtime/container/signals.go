package container

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// signalBuffer holds what comes while a signal is being forwarded.
const signalBuffer = 256

// lastSignal is SIGRTMAX; real-time signals stop some containers.
const lastSignal = syscall.Signal(64)

// caught are all signals but those that nobody can catch, those of the C
// library (32 and 33), and those that the Go runtime has its own use for.
var caught = caughtSignals()

func caughtSignals() []os.Signal {
	left := []syscall.Signal{unix.SIGCHLD, unix.SIGURG, unix.SIGKILL, unix.SIGSTOP, 32, 33}
	var all []os.Signal
	for s := unix.SIGHUP; s <= lastSignal; s++ {
		if !slices.Contains(left, s) {
			all = append(all, s)
		}
	}
	return all
}

// forwarder catches signals: before there is a process to get them, those
// that mean the end cancel the start, later all are passed on in order.
type forwarder struct {
	signals chan os.Signal
	cancel  context.CancelCauseFunc

	mu     sync.Mutex
	target *process
}

// signalError says that a signal ended the start.
type signalError struct{ sig syscall.Signal }

func (e signalError) Error() string {
	return fmt.Sprintf("interrupted by signal %d (%s)", int(e.sig), unix.SignalName(e.sig))
}

// newForwarder catches signals for the rest of the process's life, which is
// that of the container's or exec's process. To give each of them its default
// meaning back takes the Go runtime longer than all the rest of an end.
func newForwarder(cancel context.CancelCauseFunc) *forwarder {
	f := &forwarder{signals: make(chan os.Signal, signalBuffer), cancel: cancel}
	signal.Notify(f.signals, caught...)
	go f.run()
	return f
}

func (f *forwarder) run() {
	for s := range f.signals {
		sig, ok := s.(syscall.Signal)
		// SIGPIPE is about this process. It is caught all the same: else a
		// log line that nobody reads would end it.
		if !ok || sig == unix.SIGPIPE {
			continue
		}
		f.mu.Lock()
		p := f.target
		f.mu.Unlock()
		switch {
		case p != nil && sig == unix.SIGWINCH && p.io.terminal != nil:
			p.resize()
		case p != nil:
			p.forward(sig)
		case slices.Contains([]syscall.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT}, sig):
			f.cancel(signalError{sig})
		}
	}
}

// attach makes p the target.
func (f *forwarder) attach(p *process) {
	f.mu.Lock()
	f.target = p
	f.mu.Unlock()
	p.resize()
}

// forwardGrace bounds the delivery of one signal.
const forwardGrace = 10 * time.Second
