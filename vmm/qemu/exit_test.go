package qemu

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/microvm/microvm/vmm/control"
)

func exited(code int) syscall.WaitStatus { return syscall.WaitStatus(code << 8) }

const killed = syscall.WaitStatus(syscall.SIGKILL)

func TestReasons(t *testing.T) {
	broken := errors.New("front end went mad")
	for _, c := range []struct {
		name   string
		ending ending
		want   string
		is     error
	}{
		{"exit port", ending{state: exited(33), greeted: true}, control.ReasonPowerOff, nil},
		{"exit port with 0", ending{state: exited(1), greeted: true}, control.ReasonPowerOff, nil},
		{"exit port with 0 and a warning", ending{state: exited(1), greeted: true, stderr: "qemu: warning: old"}, control.ReasonPowerOff, nil},
		{"exit port of later versions", ending{state: exited(1), greeted: true, shutdown: shutdownGuest}, control.ReasonPowerOff, nil},
		{"failure", ending{state: exited(1), greeted: true, stderr: "qemu: no memory"}, control.ReasonError, ErrExit},
		{"failure before the monitor", ending{state: exited(1)}, control.ReasonError, ErrExit},
		{"exit without a cause", ending{greeted: true}, control.ReasonError, ErrExit},
		{"old QEMU", ending{state: exited(1), stderr: "unsupported machine type"}, control.ReasonError, ErrUnavailable},
		{"reset", ending{greeted: true, shutdown: shutdownReset}, control.ReasonReset, nil},
		{"panic", ending{greeted: true, shutdown: shutdownReset, panicked: true, tripleFault: true}, control.ReasonPanic, nil},
		{"triple fault", ending{greeted: true, shutdown: shutdownReset, tripleFault: true}, control.ReasonTripleFault, nil},
		{"stopped", ending{state: killed, stopped: true}, control.ReasonStopped, nil},
		{"stopped too late", ending{state: exited(33), greeted: true, stopped: true}, control.ReasonPowerOff, nil},
		{"device failed", ending{state: killed, cause: broken}, control.ReasonError, broken},
		{"killed by another", ending{state: killed, greeted: true}, control.ReasonError, ErrExit},
		{"terminated by another", ending{greeted: true, shutdown: "host-signal"}, control.ReasonError, ErrExit},
		{"crashed", ending{state: syscall.WaitStatus(syscall.SIGSEGV), greeted: true}, control.ReasonError, ErrExit},
	} {
		t.Run(c.name, func(t *testing.T) {
			reason, err := c.ending.reason()
			if reason != c.want || !errors.Is(err, c.is) {
				t.Errorf("%s, %v; want %s, %v", reason, err, c.want, c.is)
			}
		})
	}
}

func TestTripleFaultIsFoundInPieces(t *testing.T) {
	for _, text := range []string{"Triple fault", "CPU Reset (CPU 0)\nTriple fault\n", strings.Repeat("x", 5000) + "Triple fault"} {
		var whole, bytewise resetLog
		whole.Write([]byte(text))
		for i := range len(text) {
			bytewise.Write([]byte{text[i]})
		}
		if !whole.fault || !bytewise.fault {
			t.Errorf("%.40q: %v whole, %v in pieces", text, whole.fault, bytewise.fault)
		}
	}
	var none resetLog
	none.Write([]byte("CPU Reset (CPU 0)\nTriple faul"))
	none.Write([]byte("x"))
	if none.fault {
		t.Error("found what is not there")
	}
}
