package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/microvm/microvm/vmm"
	"github.com/microvm/microvm/vmm/control"
	"github.com/microvm/microvm/vmm/kvm"
)

// machine is a guest that is ready to run.
type machine interface {
	// Settle returns when the machine has opened all that it needs, or is over.
	// The guest has not run yet.
	Settle()
	// Run runs the guest to its end. The devices are at rest when it returns.
	Run() vmm.Exit
	// Stop makes Run return, at any time and from any goroutine.
	Stop()
}

func newMachine(c *control.Config, d *devices, console *vmm.Console, log *logrus.Entry) (machine, error) {
	switch c.Machine {
	case control.MachineKVM:
		return newKVM(c, d, console, log)
	case control.MachineSoftware:
		return newSoftware(c, d, console, log)
	default:
		return nil, fmt.Errorf("machine %q is neither %q nor %q", c.Machine, control.MachineKVM, control.MachineSoftware)
	}
}

// newKVM assembles the embedded VMM.
func newKVM(c *control.Config, d *devices, console *vmm.Console, log *logrus.Entry) (machine, error) {
	f, err := openFile(c.KVM, "/dev/kvm")
	if err != nil {
		return nil, err
	}
	system, err := kvm.Open(f)
	if err != nil {
		return nil, err
	}
	defer system.Close()
	kernel, initramfs, err := bootFiles(c)
	if err != nil {
		return nil, err
	}
	defer kernel.Close()
	if initramfs != nil {
		defer initramfs.Close()
	}
	m, err := vmm.New(vmm.Config{
		KVM: system, CPUs: c.CPUs, MaxCPUs: c.MaxCPUs, Memory: c.Memory, MaxMemory: c.MaxMemory,
		Kernel: kernel, Initramfs: initramfs, Cmdline: c.Cmdline, Debug: c.Debug,
		Devices: append(d.guestDevices(), d.rng, d.console),
		Console: console, Log: log,
	})
	if err != nil {
		return nil, err // not m: a nil *vmm.VM is no nil machine
	}
	return embedded{m, log}, nil
}

// embedded is the embedded VMM.
type embedded struct {
	*vmm.VM
	log *logrus.Entry
}

// Settle implements machine: New has opened all.
func (e embedded) Settle() {}

// Run implements machine. A device may be stuck in a request, as on a network
// file system whose server is gone; the guest's end must not wait for that.
func (e embedded) Run() vmm.Exit {
	done := make(chan vmm.Exit, 1)
	go func() { done <- e.VM.Run() }()
	<-e.Ended()
	select {
	case exit := <-done:
		return exit
	case <-time.After(lingering):
		e.log.Warn("a device did not stop; leaving it behind")
		return e.End()
	}
}

func bootFiles(c *control.Config) (kernel, initramfs *os.File, err error) {
	if kernel, err = openFile(c.Kernel, "kernel"); err != nil {
		return nil, nil, err
	}
	if c.Initramfs == 0 {
		return kernel, nil, nil
	}
	if initramfs, err = openFile(c.Initramfs, "initramfs"); err != nil {
		return nil, nil, errors.Join(err, kernel.Close())
	}
	return kernel, initramfs, nil
}
