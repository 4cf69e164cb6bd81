package kvm

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ioctlPtr makes a request whose argument is a structure that the kernel reads
// or writes.
func ioctlPtr[T any](fd int, req uintptr, arg *T) unix.Errno {
	_, errno := ioctl(fd, req, uintptr(unsafe.Pointer(arg)))
	runtime.KeepAlive(arg)
	return errno
}

// counted is the header of the variable-length arguments of KVM: a number of
// entries (struct kvm_cpuid2, struct kvm_msrs), the entries behind it.
type counted struct {
	n   uint32
	pad uint32
}

// packed lays a counted header and room for n entries of E out in one run of
// 8-byte aligned memory.
func packed[E any](n int) (*counted, []E) {
	var e E
	size := unsafe.Sizeof(counted{}) + uintptr(n)*unsafe.Sizeof(e)
	words := make([]uint64, (size+7)/8)
	h := (*counted)(unsafe.Pointer(&words[0]))
	h.n = uint32(n)
	if n == 0 {
		return h, nil
	}
	first := (*E)(unsafe.Add(unsafe.Pointer(h), unsafe.Sizeof(*h)))
	return h, unsafe.Slice(first, n)
}

// addressOf is where a mapping starts in this process, as the kernel wants it
// in struct kvm_userspace_memory_region.
func addressOf(mapping []byte) uint64 {
	return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(mapping))))
}

// ioctlPtrResult is ioctlPtr for requests whose result is a count.
func ioctlPtrResult[T any](fd int, req uintptr, arg *T) (int, unix.Errno) {
	n, errno := ioctl(fd, req, uintptr(unsafe.Pointer(arg)))
	runtime.KeepAlive(arg)
	return int(n), errno
}
