package vmm

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/sirupsen/logrus"

	"github.com/microvm/microvm/vmm/kvm"
	"github.com/microvm/microvm/vmm/virtio"
	"github.com/microvm/microvm/vmm/x86"
)

// ErrConfig is wrapped when a Config can't be met.
var ErrConfig = errors.New("invalid VM configuration")

// Limits of a Config.
const (
	MinMemory   = 32 << 20 // a kernel does not reach its init below this
	memoryAlign = 1 << 20
)

// Config describes a VM. Files stay the caller's and are not used after New.
type Config struct {
	// KVM makes the guest; it stays the caller's and may be closed after New.
	KVM *kvm.System
	// CPUs is the number of processors at the start, MaxCPUs the number that
	// the guest may start later; 0 is no more.
	CPUs, MaxCPUs int
	// Memory is the guest's memory at the start, MaxMemory what it finds when
	// it looks for more; 0 is no more. Both are in bytes, multiples of 1 MiB.
	Memory, MaxMemory uint64
	// Kernel is an uncompressed vmlinux, Initramfs a cpio archive or nil.
	Kernel, Initramfs *os.File
	// Cmdline is appended to the kernel command line.
	Cmdline string
	// Debug makes the guest's kernel verbose.
	Debug bool
	// Devices are the virtio devices, in order of their slots. The VM
	// activates and resets them.
	Devices []virtio.Device
	// Console takes what the guest's kernel prints before it has a console
	// device; the console device should write to it too.
	Console *Console
	// Log takes records about the VM; nil discards them.
	Log *logrus.Entry
}

// validate also fills in the maxima.
func (c *Config) validate() error {
	c.MaxCPUs, c.MaxMemory = max(c.CPUs, c.MaxCPUs), max(c.Memory, c.MaxMemory)
	switch {
	case c.KVM == nil || c.Kernel == nil || c.Console == nil:
		return fmt.Errorf("%w: KVM, Kernel and Console are needed", ErrConfig)
	case c.CPUs < 1 || c.MaxCPUs > min(c.KVM.MaxVCPUs(), x86.MaxCPUs):
		return fmt.Errorf("%w: %d CPUs, want 1 to %d", ErrConfig, c.MaxCPUs, min(c.KVM.MaxVCPUs(), x86.MaxCPUs))
	case c.Memory < MinMemory || c.Memory%memoryAlign != 0 || c.MaxMemory%memoryAlign != 0:
		return fmt.Errorf("%w: memory of %d bytes, want a multiple of 1 MiB from %d MiB", ErrConfig, c.Memory, MinMemory>>20)
	case len(c.Devices) > x86.MaxVirtioDevices:
		return fmt.Errorf("%w: %d devices, want at most %d", ErrConfig, len(c.Devices), x86.MaxVirtioDevices)
	}
	return nil
}

// baseCmdline is what every guest kernel is started with.
const baseCmdline = "console=hvc0 earlyprintk=serial,ttyS0 reboot=k panic=-1 no_timer_check " +
	"8250.nr_uarts=0 i8042.noaux swiotlb=noforce cryptomgr.notests random.trust_cpu=on"

// cmdline is the kernel command line with its devices. The level comes first:
// the kernel applies what it reads in order, and would else print to the early
// console, at two exits a byte, before it knows.
func (c *Config) cmdline() string {
	var b strings.Builder
	if c.Debug {
		b.WriteString("loglevel=7 ")
	} else {
		b.WriteString("quiet loglevel=4 ")
	}
	b.WriteString(baseCmdline)
	b.WriteString(x86.GrowthParameters(c.CPUs, c.MaxCPUs, x86.Spare(c.Memory, c.MaxMemory)))
	for i := range c.Devices {
		addr, irq := x86.VirtioSlot(i)
		fmt.Fprintf(&b, " virtio_mmio.device=4K@%#x:%d", addr, irq)
	}
	if c.Cmdline != "" {
		b.WriteString(" " + c.Cmdline)
	}
	return b.String()
}
