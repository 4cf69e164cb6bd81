// Package guest is the half of the lab that runs inside its virtual machine, as
// PID 1 from the initramfs: it turns the host's root file system into the
// guest's own, runs one command in it and reports how that ended.
//
// It never ends the machine. Once everything is synced and the exit frame is
// out, the host does.
package guest

import (
	"fmt"
	"os"

	"github.com/microvm/microvm/tests/lab/wire"
	"golang.org/x/sys/unix"
)

// InitPath is the program's name in the initramfs, and so its first argument.
const InitPath = "/init"

// IsInit tells whether this process was started as the lab's PID 1.
func IsInit() bool {
	return os.Getpid() == 1 && len(os.Args) > 0 && os.Args[0] == InitPath
}

// Main runs the guest half and never returns: when PID 1 ends, the kernel panics.
func Main() {
	if err := run(); err != nil {
		// The console reaches the host, which prints it when no exit frame came.
		fmt.Fprintln(os.Stderr, "lab:", err)
		unix.Sync()
		unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	}
	for {
		unix.Pause()
	}
}

func run() error {
	if err := mountKernelFileSystems(""); err != nil {
		return err
	}
	if err := loadModules(); err != nil {
		return err
	}
	control, err := openPort(wire.ControlPort)
	if err != nil {
		return err
	}
	if err := serve(control); err != nil {
		return wire.Write(control, wire.KindFailure, []byte(err.Error()))
	}
	return nil
}

// serve reads the start frame from the control port and does what it says.
func serve(control *os.File) error {
	input, err := openPort(wire.InputPort)
	if err != nil {
		return err
	}
	start, err := readStart(control)
	if err != nil {
		return err
	}
	if err := enterHostRoot(start); err != nil {
		return err
	}
	code := runCommand(start, control, input)
	unix.Sync()
	return wire.WriteJSON(control, wire.KindExit, code)
}
