package vmm

import (
	"errors"

	"github.com/microvm/microvm/vmm/control"
)

// Exit is how a VM ended.
type Exit struct {
	// Reason is one of the reasons of package control.
	Reason string
	// Err is the cause when Reason is control.ReasonError.
	Err error
}

// ErrGuest is wrapped by the cause of an Exit when a processor could not go
// on.
var ErrGuest = errors.New("processor of the guest stopped")

// end records how the VM ended, unless that is on record already, and makes
// every processor leave the guest. It is called from any goroutine.
func (v *VM) end(e Exit) {
	v.once.Do(func() {
		v.exit = e
		close(v.ended)
	})
	for _, c := range v.cpus {
		c.Kick()
	}
}

// reset ends the VM because the guest has reset itself, which a kernel that
// panics does too.
func (v *VM) reset() {
	reason := control.ReasonReset
	if v.console.Panicked() {
		reason = control.ReasonPanic
	}
	v.end(Exit{Reason: reason})
}

// Stop makes Run return, at once, with control.ReasonStopped if nothing else
// came first. It may be called at any time from any goroutine.
func (v *VM) Stop() { v.end(Exit{Reason: control.ReasonStopped}) }

// Ended is closed as soon as it is known how the VM ended, before Run has
// waited for processors and devices. End may be called from then on.
func (v *VM) Ended() <-chan struct{} { return v.ended }

// End is how the VM ended.
func (v *VM) End() Exit { return v.exit }
