package kvm

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Requests of <linux/kvm.h>. Direction and size of the argument are part of
// the number.
const (
	kvmGetAPIVersion    = 0xae00
	kvmCreateVM         = 0xae01
	kvmCheckExtension   = 0xae03
	kvmGetVCPUMmapSize  = 0xae04
	kvmGetSupportedCPUI = 0xc008ae05 // KVM_GET_SUPPORTED_CPUID

	kvmCreateVCPU          = 0xae41
	kvmSetUserMemoryRegion = 0x4020ae46
	kvmSetTSSAddr          = 0xae47
	kvmSetIdentityMapAddr  = 0x4008ae48
	kvmCreateIRQChip       = 0xae60
	kvmIRQLine             = 0x4008ae61
	kvmIRQFD               = 0x4020ae76
	kvmCreatePIT2          = 0x4040ae77
	kvmIOEventFD           = 0x4040ae79

	kvmRun        = 0xae80
	kvmGetRegs    = 0x8090ae81
	kvmSetRegs    = 0x4090ae82
	kvmGetSregs   = 0x8138ae83
	kvmSetSregs   = 0x4138ae84
	kvmGetMSRs    = 0xc008ae88
	kvmSetMSRs    = 0x4008ae89
	kvmSetFPU     = 0x41a0ae8d
	kvmGetLAPIC   = 0x8400ae8e
	kvmSetLAPIC   = 0x4400ae8f
	kvmSetCPUID2  = 0x4008ae90
	kvmGetMPState = 0x8004ae98
)

// apiVersion is the only KVM_GET_API_VERSION that ever was.
const apiVersion = 12

// ioctl makes a request whose argument is a number, and returns its result.
// EINTR and EAGAIN are the caller's to judge.
func ioctl(fd int, req, arg uintptr) (uintptr, unix.Errno) {
	r, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), req, arg)
	return r, errno
}

// check turns the outcome of a request into an error that names it.
func check(name string, errno unix.Errno) error {
	if errno != 0 {
		return fmt.Errorf("%s: %w", name, errno)
	}
	return nil
}
