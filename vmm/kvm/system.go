package kvm

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ErrUnusable is wrapped when a descriptor is not a KVM this package can work
// with.
var ErrUnusable = errors.New("kvm is not usable")

// Capability is a number for System.Check.
type Capability uintptr

// Capabilities in use (KVM_CAP_*).
const (
	CapIRQChip            Capability = 0
	CapUserMemory         Capability = 3
	CapNRVCPUs            Capability = 9 // recommended maximum
	CapIRQFD              Capability = 32
	CapPIT2               Capability = 33
	CapIOEventFD          Capability = 36
	CapMaxVCPUs           Capability = 66
	CapTSCDeadlineTimer   Capability = 72
	CapImmediateExit      Capability = 136
	CapIOEventFDNoLength  Capability = 100
	CapIOEventFDAnyLength Capability = 122
)

// required are the capabilities without which nothing here works; kernels have
// had all of them since 4.12.
var required = []struct {
	cap  Capability
	name string
}{
	{CapIRQChip, "KVM_CAP_IRQCHIP"},
	{CapUserMemory, "KVM_CAP_USER_MEMORY"},
	{CapIRQFD, "KVM_CAP_IRQFD"},
	{CapPIT2, "KVM_CAP_PIT2"},
	{CapIOEventFD, "KVM_CAP_IOEVENTFD"},
	{CapImmediateExit, "KVM_CAP_IMMEDIATE_EXIT"},
}

// System is an open /dev/kvm.
type System struct {
	f        *os.File
	fd       int
	mmapSize int
}

// Open takes over f, /dev/kvm opened read-write, and checks that it is a KVM
// with everything that is required; if not, the error wraps ErrUnusable and f
// is closed.
func Open(f *os.File) (*System, error) {
	s := &System{f: f, fd: int(f.Fd())}
	if err := s.probe(); err != nil {
		f.Close()
		return nil, err
	}
	return s, nil
}

func (s *System) probe() error {
	v, errno := ioctl(s.fd, kvmGetAPIVersion, 0)
	if errno != 0 {
		return fmt.Errorf("%w: KVM_GET_API_VERSION: %w", ErrUnusable, errno)
	}
	if v != apiVersion {
		return fmt.Errorf("%w: API version %d, want %d", ErrUnusable, v, apiVersion)
	}
	for _, r := range required {
		if s.Check(r.cap) == 0 {
			return fmt.Errorf("%w: no %s", ErrUnusable, r.name)
		}
	}
	n, errno := ioctl(s.fd, kvmGetVCPUMmapSize, 0)
	if errno != 0 || n < runSize {
		return fmt.Errorf("%w: KVM_GET_VCPU_MMAP_SIZE gave %d: %w", ErrUnusable, n, errno)
	}
	s.mmapSize = int(n)
	return nil
}

// Check is KVM_CHECK_EXTENSION: 0 when the capability is missing, else 1 or a
// number that the capability defines.
func (s *System) Check(c Capability) int {
	n, errno := ioctl(s.fd, kvmCheckExtension, uintptr(c))
	if errno != 0 {
		return 0
	}
	return int(n)
}

// MaxVCPUs is how many vCPUs a VM may have.
func (s *System) MaxVCPUs() int {
	if n := s.Check(CapMaxVCPUs); n > 0 {
		return n
	}
	return max(s.Check(CapNRVCPUs), 4) // 4 is what api.rst says to assume
}

// CreateVM makes an empty guest. A signal may interrupt the creation on some
// kernels, which is tried again.
func (s *System) CreateVM() (*VM, error) {
	for {
		fd, errno := ioctl(s.fd, kvmCreateVM, 0)
		switch errno {
		case 0:
			unix.CloseOnExec(int(fd))
			return &VM{fd: int(fd), mmapSize: s.mmapSize}, nil
		case unix.EINTR:
			continue
		default:
			return nil, fmt.Errorf("KVM_CREATE_VM: %w", errno)
		}
	}
}

// Close closes the device node. VMs made from it live on.
func (s *System) Close() error { return s.f.Close() }
