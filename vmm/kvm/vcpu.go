package kvm

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// VCPU is one processor of a VM. All methods but Kick belong to one goroutine.
type VCPU struct {
	fd     int
	run    runPage
	thread atomic.Int64 // OS thread that calls Run, 0 before the first
	kicked atomic.Bool

	// mu keeps run mapped while Kick uses it.
	mu     sync.Mutex
	closed bool
}

// CreateVCPU makes the processor with the given id, which is its APIC id.
func (v *VM) CreateVCPU(id int) (*VCPU, error) {
	fd, errno := ioctl(v.fd, kvmCreateVCPU, uintptr(id))
	if errno != 0 {
		return nil, fmt.Errorf("KVM_CREATE_VCPU %d: %w", id, errno)
	}
	unix.CloseOnExec(int(fd))
	run, err := unix.Mmap(int(fd), 0, v.mmapSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		unix.Close(int(fd))
		return nil, fmt.Errorf("map kvm_run of vcpu %d: %w", id, err)
	}
	return &VCPU{fd: int(fd), run: run}, nil
}

// Run lets the guest run until it needs the caller: see the Exit that it
// returns, and the accessors of its kind. After Kick it returns ExitKicked, at
// once and every time. The calling goroutine must be locked to its OS thread.
func (c *VCPU) Run() (Exit, error) {
	if c.thread.Load() == 0 {
		c.thread.Store(int64(unix.Gettid()))
	}
	for {
		// An ordinary Syscall, not RawSyscall: the scheduler must know that
		// this thread blocks, or it keeps interrupting it.
		_, errno := ioctl(c.fd, kvmRun, 0)
		switch errno {
		case 0:
			return c.run.exit(), nil
		case unix.EINTR, unix.EAGAIN:
			// EAGAIN: the vCPU was woken from wait-for-SIPI.
			if c.kicked.Load() {
				return ExitKicked, nil
			}
		default:
			return 0, fmt.Errorf("KVM_RUN: %w", errno)
		}
	}
}

// Kick makes the present and every later Run return ExitKicked. It may be
// called from any goroutine; after Close it does nothing.
func (c *VCPU) Kick() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.kicked.Store(true)
	// In this order: a signal that comes before the thread enters the guest
	// is lost, but then the kernel still sees the flag.
	c.run.setImmediateExit()
	if tid := c.thread.Load(); tid != 0 {
		// SIGURG is what the Go runtime preempts with: every process of it
		// has a handler, and stray ones do no harm.
		_ = unix.Tgkill(os.Getpid(), int(tid), unix.SIGURG)
	}
}

// Close gives the processor back. Run must have returned.
func (c *VCPU) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	if err := unix.Munmap(c.run); err != nil {
		return fmt.Errorf("unmap kvm_run: %w", err)
	}
	return unix.Close(c.fd)
}
