// The Go runtime is not to keep files of the cgroup open: the number of processors
// is the configuration's.
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command microvm-vmm is the process of one virtual machine. It is started by
// the machine's owner, which hands over a configuration (package vmm/control)
// and every file the machine may use as open descriptors; it opens nothing by
// path but QEMU on the software machine, and it ends when the owner does. The
// owner starts it in namespaces of its own, which it makes a jail of (package
// jail) before the guest runs.
//
// As `microvm-vmm fs` it is the file-system device of another VMM's machine,
// over vhost-user.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/vmm"
	"github.com/microvm/microvm/vmm/control"
	"github.com/microvm/microvm/vmm/jail"
)

// Exit codes. The reason of a machine's end goes over the control socket; the
// code only says whether the host's side was at fault.
const (
	exitFault = 1
	exitUsage = 2
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "fs" {
		os.Exit(shareMain(os.Args[2:]))
	}
	configFD := flag.Int("config-fd", -1, "descriptor to read the configuration from")
	flag.Parse()
	if *configFD < 3 || flag.NArg() != 0 {
		flag.Usage()
		os.Exit(exitUsage)
	}
	if err := run(*configFD); err != nil {
		fmt.Fprintln(os.Stderr, "microvm-vmm:", err)
		os.Exit(exitFault)
	}
}

// run is main's life: configuration, machine, the end's report.
func run(configFD int) error {
	// The owner decides over this process, not a terminal, and not whoever
	// reads the log.
	signal.Ignore(unix.SIGHUP, unix.SIGINT, unix.SIGPIPE)
	inherited, err := jail.Inherited()
	if err != nil {
		return err
	}
	// QEMU must not inherit what was handed to us.
	if err := unix.CloseRange(3, 1<<31-1, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("mark descriptors close-on-exec: %w", err)
	}
	c, err := readConfig(configFD)
	if err != nil {
		return err
	}
	tune(c)
	j, err := jail.Prepare(inherited, append(c.Descriptors(), configFD))
	if err != nil {
		return err
	}
	owner, err := openOwner(c)
	if err != nil {
		return err
	}
	owner.stage(control.StageProcess)
	console := new(vmm.Console)
	exit := runMachine(c, j, owner, console)
	owner.report(exit, console)
	if exit.Reason == control.ReasonError {
		return exit.Err
	}
	return nil
}

func readConfig(fd int) (*control.Config, error) {
	f := os.NewFile(uintptr(fd), "config")
	defer f.Close()
	return control.ReadConfig(f)
}

// tune fits the Go runtime to a process that is there once per container.
func tune(c *control.Config) {
	// A thread in the guest keeps its P until the scheduler notices, which may
	// take ten milliseconds: the devices need Ps of their own. With one of them
	// idle it takes that long; with none, the scheduler takes a vCPU's P after
	// each exit, and wakes up every 20 microseconds to look. So there are more
	// than there is work for, also on a host with one CPU.
	runtime.GOMAXPROCS(max(c.CPUs, 1) + devicePs)
	debug.SetGCPercent(gcPercent)
}

const (
	devicePs  = 6
	gcPercent = 50
)

// runMachine builds the machine and runs it to its end. Nothing is given back:
// the process is about to end, and the kernel does it faster.
func runMachine(c *control.Config, j *jail.Jail, owner *owner, console *vmm.Console) vmm.Exit {
	log, err := openLog(c)
	if err != nil {
		return failure(err)
	}
	devices, err := newDevices(c, console, log)
	if err != nil {
		return failure(err)
	}
	m, err := newMachine(c, devices, console, log)
	if err != nil {
		return failure(err)
	}
	go owner.serve(service{devices: devices, console: console, stop: m.Stop})
	m.Settle()
	if err := confine(c, j, devices); err != nil {
		return failure(err)
	}
	go devices.listen(log)
	owner.stage(control.StageRun)
	return m.Run()
}

// confine closes the jail, before the guest's first instruction.
func confine(c *control.Config, j *jail.Jail, d *devices) error {
	if err := j.Enter(jail.Config{Child: c.Machine == control.MachineSoftware}); err != nil {
		return err
	}
	return d.files.ReadCredentials()
}

func failure(err error) vmm.Exit { return vmm.Exit{Reason: control.ReasonError, Err: err} }
