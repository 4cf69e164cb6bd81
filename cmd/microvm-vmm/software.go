package main

import (
	"github.com/sirupsen/logrus"

	"github.com/microvm/microvm/vmm"
	"github.com/microvm/microvm/vmm/control"
	"github.com/microvm/microvm/vmm/qemu"
)

// software is QEMU with our devices. Console and entropy are QEMU's own.
type software struct {
	m *qemu.Machine
}

// newSoftware starts QEMU.
func newSoftware(c *control.Config, d *devices, console *vmm.Console, log *logrus.Entry) (machine, error) {
	kernel, initramfs, err := bootFiles(c)
	if err != nil {
		return nil, err
	}
	defer kernel.Close()
	if initramfs != nil {
		defer initramfs.Close()
	}
	m, err := qemu.Start(qemu.Config{
		Path: c.QEMU, CPUs: c.CPUs, MaxCPUs: c.MaxCPUs, Memory: c.Memory, MaxMemory: c.MaxMemory,
		Kernel: kernel, Initramfs: initramfs, Cmdline: c.Cmdline, Debug: c.Debug,
		Devices: d.guestDevices(),
		Console: console, Log: log,
	})
	if err != nil {
		return nil, err
	}
	return software{m}, nil
}

// Settle implements machine.
func (s software) Settle() { s.m.Settle() }

// Run implements machine.
func (s software) Run() vmm.Exit {
	s.m.Resume()
	reason, err := s.m.Wait()
	return vmm.Exit{Reason: reason, Err: err}
}

// Stop implements machine.
func (s software) Stop() { s.m.Stop() }
