package sandbox

import (
	"errors"
	"fmt"
	"strings"

	"github.com/microvm/microvm/agent/api"
	"github.com/microvm/microvm/vmm/control"
)

// End is how a machine ended.
type End struct {
	// Reason is one of package vmm/control's, or "" when the VM process went
	// without a word.
	Reason string
	// Err is the cause on the host's side, if there is one.
	Err error
	// Console holds the last lines of the guest's console, behind the first ones of
	// an oops.
	Console string
}

// ErrMachine is the class of errors that say that the machine broke down.
var ErrMachine = errors.New("the machine broke down")

// reasons in words.
var reasons = map[string]string{
	control.ReasonPowerOff:    "the guest switched itself off",
	control.ReasonReset:       "the guest rebooted",
	control.ReasonPanic:       "the guest's kernel panicked",
	control.ReasonTripleFault: "the guest's CPU gave up (triple fault)",
	control.ReasonStopped:     "the machine was stopped",
	control.ReasonError:       "the VM process broke down",
}

// Error describes an end that was not wished for.
func (e End) Error() string {
	text, known := reasons[e.Reason]
	if !known {
		text = "the VM process was killed or crashed"
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text + e.console()
}

// Is puts every end into the class ErrMachine.
func (e End) Is(target error) bool { return target == ErrMachine }

// Unwrap returns the cause.
func (e End) Unwrap() error { return e.Err }

// How much of the console is shown; the VM process has chosen what is worth it.
const (
	consoleLines = 25
	consoleLine  = 512 // bytes
)

func (e End) console() string {
	lines := strings.Split(strings.TrimSpace(strings.ReplaceAll(e.Console, "\r", "")), "\n")
	if len(lines) > consoleLines {
		lines = lines[len(lines)-consoleLines:]
	}
	for i, line := range lines {
		lines[i] = api.Printable(line, consoleLine)
	}
	if len(lines) == 1 && lines[0] == "" {
		return ""
	}
	return fmt.Sprintf("; the guest's last words:\n%s", strings.Join(lines, "\n"))
}
