package qemu

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/sirupsen/logrus"

	"github.com/microvm/microvm/vmm/virtio"
	"github.com/microvm/microvm/vmm/x86"
)

var (
	// ErrConfig is wrapped when a Config can't be met.
	ErrConfig = errors.New("invalid configuration of the software machine")
	// ErrUnavailable is wrapped when there is no QEMU or one that can't run
	// the machine; the message names the package to install.
	ErrUnavailable = errors.New("QEMU is not usable")
)

// Limits of a Config.
const (
	MinMemory   = 64 << 20 // a kernel does not reach its init below this
	memoryAlign = 1 << 20
	maxCPUs     = 255
)

// Console takes what the guest prints. Both methods may be called from any
// goroutine; Write must not block.
type Console interface {
	io.Writer
	// Panicked says that the guest's kernel has reported a panic.
	Panicked() bool
}

// Config describes a machine.
type Config struct {
	// Path is the program; empty finds qemu-system-x86_64 in PATH.
	Path string
	// CPUs is the number of processors at the start, 1 to 255, MaxCPUs the
	// number that the guest may start later; 0 is no more.
	CPUs, MaxCPUs int
	// Memory is the guest's memory at the start, MaxMemory what it finds when
	// it looks for more; 0 is no more. Both are in bytes, multiples of 1 MiB.
	Memory, MaxMemory uint64
	// Kernel is an uncompressed vmlinux with a PVH note or a bzImage;
	// Initramfs is a cpio archive or nil. Both are regular files that are
	// open for reading; they stay the caller's and may be closed after Start.
	Kernel, Initramfs *os.File
	// Cmdline is appended to the kernel command line.
	Cmdline string
	// Debug makes the guest's kernel verbose.
	Debug bool
	// Devices of type DeviceFS, DeviceVsock, DeviceNet and DeviceBlock are
	// attached over vhost-user.
	// The machine activates and resets them until Wait returns. They get
	// rings of up to 1024 entries, whatever their QueueSizes.
	Devices []virtio.Device
	// Console takes what the guest's kernel prints.
	Console Console
	// Log takes records about the machine; nil discards them.
	Log *logrus.Entry
}

// validate also fills in the maxima.
func (c *Config) validate() error {
	c.MaxCPUs, c.MaxMemory = max(c.CPUs, c.MaxCPUs), max(c.Memory, c.MaxMemory)
	switch {
	case c.Kernel == nil || c.Console == nil:
		return fmt.Errorf("%w: Kernel and Console are needed", ErrConfig)
	case c.CPUs < 1 || c.MaxCPUs > maxCPUs:
		return fmt.Errorf("%w: %d CPUs, want 1 to %d", ErrConfig, c.MaxCPUs, maxCPUs)
	case c.Memory < MinMemory || c.Memory%memoryAlign != 0 || c.MaxMemory%memoryAlign != 0:
		return fmt.Errorf("%w: memory of %d bytes, want a multiple of 1 MiB from %d MiB", ErrConfig, c.Memory, MinMemory>>20)
	case strings.ContainsRune(c.Cmdline, 0):
		return fmt.Errorf("%w: NUL in the kernel command line", ErrConfig)
	}
	return nil
}

// baseCmdline is what every guest kernel is started with. On top of what the
// embedded VMM gives, the processor's mitigations are off, since none of their
// instructions is one of the host's after QEMU has translated it; and the TSC is
// trusted, since a late timer interrupt of a busy host would have the kernel fall
// back to jiffies.
const baseCmdline = "console=hvc0 earlyprintk=serial,ttyS0 reboot=k panic=-1 no_timer_check " +
	"8250.nr_uarts=0 i8042.noaux swiotlb=noforce cryptomgr.notests random.trust_cpu=on " +
	"mitigations=off tsc=reliable"

// cmdline makes the kernel command line, which takes some milliseconds. QEMU adds the devices to it. The level
// comes first: the kernel applies what it reads in order, and would else print
// to the early console before it knows.
func (c *Config) cmdline() string {
	level := "quiet loglevel=4 "
	if c.Debug {
		level = "loglevel=7 "
	}
	tsc := ""
	if f := tscFrequency(); f != 0 {
		tsc = fmt.Sprintf(" tsc_early_khz=%d", f)
	}
	return strings.TrimSpace(level + baseCmdline + tsc + c.growth() + " " + c.Cmdline)
}

// growth are the parameters of a guest that starts smaller than it may become.
// QEMU tells the kernel of all memory; it is to leave the spare alone.
func (c *Config) growth() string {
	spare := x86.Spare(c.Memory, c.MaxMemory)
	var hidden string
	for _, r := range spare {
		hidden += fmt.Sprintf(" memmap=%#x%%%#x-%d", r.Size, r.Base, x86.E820RAM)
	}
	return hidden + x86.GrowthParameters(c.CPUs, c.MaxCPUs, spare)
}
