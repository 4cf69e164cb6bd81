package vmm

import (
	"github.com/microvm/microvm/vmm/bus"
	"github.com/microvm/microvm/vmm/control"
	"github.com/microvm/microvm/vmm/legacy"
	"github.com/microvm/microvm/vmm/virtio"
	"github.com/microvm/microvm/vmm/virtio/mmio"
	"github.com/microvm/microvm/vmm/x86"
)

func (v *VM) attachDevices(c *Config) error {
	v.ports = bus.New("port", v.reportMiss("port"))
	v.registers = bus.New("memory", v.reportMiss("memory"))
	if err := v.attachLegacy(); err != nil {
		return err
	}
	var err error
	if v.unread, err = virtio.NewEventFD(); err != nil {
		return err
	}
	for i, dev := range c.Devices {
		if err := v.attachVirtio(i, dev); err != nil {
			return err
		}
	}
	return nil
}

func (v *VM) attachLegacy() error {
	keyboard := legacy.NewI8042(v.reset)
	exit := legacy.NewExitPort(func(byte) { v.end(Exit{Reason: control.ReasonPowerOff}) })
	for _, p := range []struct {
		base, size uint64
		dev        bus.Device
	}{
		{x86.PortI8042Data, x86.PortI8042Command - x86.PortI8042Data + 1, keyboard},
		{x86.PortUART, 8, legacy.NewUART(v.console)},
		{x86.PortExit, 1, exit},
	} {
		if err := v.ports.Insert(p.base, p.size, p.dev); err != nil {
			return err
		}
	}
	return nil
}

// attachVirtio puts dev into slot i: its registers on the bus, its doorbells
// on KVM, which rings them without an exit, and one that nobody hears, where the
// driver acknowledges interrupts.
func (v *VM) attachVirtio(i int, dev virtio.Device) error {
	addr, irq := x86.VirtioSlot(i)
	t, err := mmio.New(dev, v.mem, v.reportFault(dev))
	if err != nil {
		return err
	}
	v.transports = append(v.transports, t)
	if err := v.registers.Insert(addr, mmio.Size, t); err != nil {
		return err
	}
	if err := v.vm.IRQFD(t.Interrupt().FD(), irq); err != nil {
		return err
	}
	if err := v.vm.IOEventFD(v.unread.FD(), addr+mmio.AckOffset, mmio.AckUsed); err != nil {
		return err
	}
	for q, kick := range t.Kicks() {
		if err := v.vm.IOEventFD(kick.FD(), addr+mmio.NotifyOffset, uint32(q)); err != nil {
			return err
		}
	}
	return nil
}
