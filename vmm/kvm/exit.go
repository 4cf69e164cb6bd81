package kvm

import (
	"encoding/binary"
	"fmt"
)

// Exit is why the guest stopped (KVM_EXIT_*).
type Exit uint32

// Exits that this package knows.
const (
	ExitUnknown       Exit = 0
	ExitIO            Exit = 2
	ExitHLT           Exit = 5 // only without an interrupt chip in the kernel
	ExitMMIO          Exit = 6
	ExitShutdown      Exit = 8 // triple fault
	ExitFailEntry     Exit = 9
	ExitIntr          Exit = 10
	ExitInternalError Exit = 17
	ExitSystemEvent   Exit = 24

	// ExitKicked is not the kernel's: Kick was called.
	ExitKicked Exit = 1 << 31
)

// String names the exit as <linux/kvm.h> does.
func (e Exit) String() string {
	switch e {
	case ExitUnknown:
		return "KVM_EXIT_UNKNOWN"
	case ExitIO:
		return "KVM_EXIT_IO"
	case ExitHLT:
		return "KVM_EXIT_HLT"
	case ExitMMIO:
		return "KVM_EXIT_MMIO"
	case ExitShutdown:
		return "KVM_EXIT_SHUTDOWN"
	case ExitFailEntry:
		return "KVM_EXIT_FAIL_ENTRY"
	case ExitIntr:
		return "KVM_EXIT_INTR"
	case ExitInternalError:
		return "KVM_EXIT_INTERNAL_ERROR"
	case ExitSystemEvent:
		return "KVM_EXIT_SYSTEM_EVENT"
	case ExitKicked:
		return "kicked"
	default:
		return fmt.Sprintf("KVM_EXIT %d", uint32(e))
	}
}

// Offsets in struct kvm_run. The union of the exits starts at runUnion.
const (
	runImmediateExit = 1
	runExitReason    = 8
	runUnion         = 32
	runSize          = 2352
)

// runPage is the memory that a vCPU shares with the kernel: struct kvm_run,
// then a page of port data.
type runPage []byte

func (r runPage) exit() Exit { return Exit(binary.NativeEndian.Uint32(r[runExitReason:])) }

func (r runPage) setImmediateExit() { r[runImmediateExit] = 1 }

// IO is a port access of the guest: Count accesses of Size bytes each, one
// after the other in Data. For an input the caller fills Data before the next
// Run.
type IO struct {
	In   bool
	Size int
	Port uint16
	Data []byte
}

// IO decodes ExitIO. It is valid until the next Run.
func (c *VCPU) IO() (IO, error) {
	u := c.run[runUnion:]
	size, count := int(u[1]), int(binary.NativeEndian.Uint32(u[4:]))
	off := binary.NativeEndian.Uint64(u[8:])
	n := uint64(size) * uint64(count)
	if size == 0 || off > uint64(len(c.run)) || n > uint64(len(c.run))-off {
		return IO{}, fmt.Errorf("decode KVM_EXIT_IO: %d accesses of %d bytes at %#x", count, size, off)
	}
	return IO{
		In:   u[0] == 0, // KVM_EXIT_IO_IN
		Size: size,
		Port: binary.NativeEndian.Uint16(u[2:]),
		Data: c.run[off : off+n],
	}, nil
}

// MMIO is an access of the guest to an address without memory. For a read the
// caller fills Data before the next Run.
type MMIO struct {
	Addr  uint64
	Write bool
	Data  []byte
}

// MMIO decodes ExitMMIO. It is valid until the next Run.
func (c *VCPU) MMIO() (MMIO, error) {
	u := c.run[runUnion:]
	n := binary.NativeEndian.Uint32(u[16:])
	if n > 8 {
		return MMIO{}, fmt.Errorf("decode KVM_EXIT_MMIO: %d bytes", n)
	}
	return MMIO{Addr: binary.NativeEndian.Uint64(u), Data: u[8 : 8+n : 8+n], Write: u[20] != 0}, nil
}

// SystemEvent is the kind of an ExitSystemEvent.
type SystemEvent uint32

// Kinds of system events (KVM_SYSTEM_EVENT_*).
const (
	SystemShutdown SystemEvent = 1
	SystemReset    SystemEvent = 2
	SystemCrash    SystemEvent = 3
)

// SystemEvent decodes ExitSystemEvent.
func (c *VCPU) SystemEvent() SystemEvent {
	return SystemEvent(binary.NativeEndian.Uint32(c.run[runUnion:]))
}

// Failure describes the exits after which a vCPU can't go on, with what the
// kernel says of the cause.
func (c *VCPU) Failure(e Exit) error {
	u := c.run[runUnion:]
	switch e {
	case ExitInternalError:
		return fmt.Errorf("%v: suberror %d (%s), data %#x", e, binary.NativeEndian.Uint32(u),
			suberror(binary.NativeEndian.Uint32(u)), c.internalData())
	case ExitFailEntry:
		return fmt.Errorf("%v: hardware reason %#x on cpu %d", e,
			binary.NativeEndian.Uint64(u), binary.NativeEndian.Uint32(u[8:]))
	case ExitUnknown:
		return fmt.Errorf("%v: hardware reason %#x", e, binary.NativeEndian.Uint64(u))
	default:
		return fmt.Errorf("unexpected %v", e)
	}
}

// internalData is the data of an internal error, at most 16 words.
func (c *VCPU) internalData() []uint64 {
	u := c.run[runUnion:]
	n := min(binary.NativeEndian.Uint32(u[4:]), 16)
	data := make([]uint64, n)
	for i := range data {
		data[i] = binary.NativeEndian.Uint64(u[8+8*i:])
	}
	return data
}

// suberror names the cause of an internal error (KVM_INTERNAL_ERROR_*).
func suberror(n uint32) string {
	switch n {
	case 1:
		return "instruction emulation"
	case 2:
		return "simultaneous exceptions"
	case 3:
		return "exception while delivering an event"
	case 4:
		return "unexpected exit reason"
	default:
		return "unknown"
	}
}
