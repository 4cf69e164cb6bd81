package vmm

import (
	"fmt"
	"runtime"

	"github.com/microvm/microvm/vmm/bus"
	"github.com/microvm/microvm/vmm/control"
	"github.com/microvm/microvm/vmm/kvm"
	"github.com/microvm/microvm/vmm/x86"
)

// createCPUs makes the processors as they are after power-on, with CPUID and
// the registers that firmware would have set.
func (v *VM) createCPUs(c *Config) error {
	supported, err := c.KVM.SupportedCPUID()
	if err != nil {
		return err
	}
	cpuid := x86.CPUID{
		Supported:   supported,
		Cores:       c.MaxCPUs,
		TSCDeadline: c.KVM.Check(kvm.CapTSCDeadlineTimer) != 0,
	}
	for id := range c.MaxCPUs {
		cpu, err := v.vm.CreateVCPU(id)
		if err != nil {
			return err
		}
		v.cpus = append(v.cpus, cpu)
		if err := cpu.SetCPUID(cpuid.ForCPU(uint32(id))); err != nil {
			return fmt.Errorf("processor %d: %w", id, err)
		}
		if err := x86.SetCommon(cpu); err != nil {
			return fmt.Errorf("processor %d: %w", id, err)
		}
	}
	return nil
}

// runCPU runs one processor until the VM has ended. Its thread dies with it,
// so that nothing inherits the state of a thread that was in a guest.
func (v *VM) runCPU(c *kvm.VCPU) {
	runtime.LockOSThread()
	for {
		e, err := c.Run()
		if err == nil && e == kvm.ExitKicked {
			return
		}
		if err == nil {
			err = v.handle(c, e)
		}
		if err != nil {
			v.end(Exit{Reason: control.ReasonError, Err: fmt.Errorf("%w: %w", ErrGuest, err)})
			return
		}
	}
}

// handle serves one exit. An error ends the VM.
func (v *VM) handle(c *kvm.VCPU, e kvm.Exit) error {
	switch e {
	case kvm.ExitIO:
		return v.handleIO(c)
	case kvm.ExitMMIO:
		m, err := c.MMIO()
		if err != nil {
			return err
		}
		access(v.registers, m.Addr, m.Data, m.Write)
		return nil
	case kvm.ExitIntr:
		return nil
	case kvm.ExitShutdown:
		v.end(Exit{Reason: control.ReasonTripleFault})
		return nil
	case kvm.ExitSystemEvent:
		return v.handleSystemEvent(c)
	default:
		return c.Failure(e)
	}
}

// handleIO serves a port access; a string instruction is several in one exit.
func (v *VM) handleIO(c *kvm.VCPU) error {
	io, err := c.IO()
	if err != nil {
		return err
	}
	for b := io.Data; len(b) >= io.Size; b = b[io.Size:] {
		access(v.ports, uint64(io.Port), b[:io.Size], !io.In)
	}
	return nil
}

func access(b *bus.Bus, addr uint64, p []byte, write bool) {
	if write {
		b.Write(addr, p)
	} else {
		b.Read(addr, p)
	}
}

func (v *VM) handleSystemEvent(c *kvm.VCPU) error {
	switch e := c.SystemEvent(); e {
	case kvm.SystemShutdown:
		v.end(Exit{Reason: control.ReasonPowerOff})
	case kvm.SystemReset:
		v.reset()
	case kvm.SystemCrash:
		v.end(Exit{Reason: control.ReasonPanic})
	default:
		return fmt.Errorf("unexpected system event %d", e)
	}
	return nil
}
