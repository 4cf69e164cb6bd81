// Package kvm is /dev/kvm in Go: typed wrappers of its ioctls for x86-64, one
// method per ioctl, no policy.
//
// The three objects follow the kernel's (Documentation/virt/kvm/api.rst): a
// System is the device node, a VM one guest, a VCPU one of its processors.
// Each wraps a descriptor that its Close gives back; a VM must outlive its
// VCPUs.
//
// Concurrency: System and VM may be used from any goroutine. A VCPU belongs to
// one goroutine that is locked to its OS thread, except for Kick.
//
// Structures that the kernel reads or writes mirror <linux/kvm.h>; their sizes
// and offsets are asserted in the tests.
package kvm
