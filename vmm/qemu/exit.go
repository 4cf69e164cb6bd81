package qemu

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/microvm/microvm/vmm/control"
)

// ErrExit is wrapped when QEMU ended for no reason of the guest's.
var ErrExit = errors.New("QEMU ended unexpectedly")

// Reasons of QMP's SHUTDOWN event.
const (
	shutdownGuest = "guest-shutdown"
	shutdownReset = "guest-reset"
	shutdownPanic = "guest-panic"
)

// ending is all that is known when QEMU is gone.
type ending struct {
	state       syscall.WaitStatus
	stopped     bool   // by us
	cause       error  // a fault on our side that made us stop it
	greeted     bool   // QEMU got as far as its monitor
	shutdown    string // reason of the SHUTDOWN event
	panicked    bool   // the guest's kernel said so
	tripleFault bool
	stderr      string
}

// reason translates to the reasons of package control.
func (e *ending) reason() (string, error) {
	switch {
	case e.stopped && e.killed():
		return control.ReasonStopped, nil
	case e.cause != nil && e.killed():
		return control.ReasonError, e.cause
	case e.shutdown == shutdownReset || e.shutdown == shutdownPanic:
		return e.resetReason(), nil
	case e.shutdown == shutdownGuest || e.exitPort():
		return control.ReasonPowerOff, nil
	}
	return control.ReasonError, e.unexpected()
}

func (e *ending) resetReason() string {
	switch {
	case e.panicked:
		return control.ReasonPanic
	case e.tripleFault:
		return control.ReasonTripleFault
	}
	return control.ReasonReset
}

// killed says that QEMU did not get to end by itself.
func (e *ending) killed() bool { return e.state.Signaled() && e.state.Signal() == syscall.SIGKILL }

// exitPort says that the guest wrote to the exit port. QEMU's own failures end
// with status 1 too, but they complain, or come before the greeting.
func (e *ending) exitPort() bool {
	code := e.state.ExitStatus() // -1 after a signal
	return e.greeted && code > 0 && code&1 == 1 && (code != 1 || !complains(e.stderr))
}

// complains says that there is more than warnings in what QEMU printed.
func complains(stderr string) bool {
	for line := range strings.Lines(stderr) {
		if strings.TrimSpace(line) != "" && !strings.Contains(line, ": warning: ") {
			return true
		}
	}
	return false
}

// unexpected describes the end of a QEMU that failed.
func (e *ending) unexpected() error {
	err := fmt.Errorf("%w: %s", ErrExit, e.status())
	if !e.greeted && tooOld(e.stderr) {
		err = fmt.Errorf("%w: it is too old, or lacks parts: install the package %s of Debian 12 or later: %w", ErrUnavailable, debianPackage, err)
	}
	if e.stderr != "" {
		err = fmt.Errorf("%w: %s", err, e.stderr)
	}
	return err
}

func (e *ending) status() string {
	if e.state.Signaled() {
		return "killed by signal " + e.state.Signal().String()
	}
	return fmt.Sprintf("exit status %d", e.state.ExitStatus())
}

// tooOld recognises a QEMU that does not know what it was asked for.
func tooOld(stderr string) bool {
	for _, mark := range []string{
		"is not a valid device model name", "unsupported machine type", "invalid accelerator",
		"invalid object type", "invalid option", "Property ", "could not load PC BIOS", "Could not open option rom",
	} {
		if strings.Contains(stderr, mark) {
			return true
		}
	}
	return false
}
