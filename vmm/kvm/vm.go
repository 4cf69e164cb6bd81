package kvm

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// VM is one guest.
type VM struct {
	fd       int
	mmapSize int
}

// memoryRegion is struct kvm_userspace_memory_region.
type memoryRegion struct {
	slot      uint32
	_         uint32 // flags
	guestAddr uint64
	size      uint64
	userAddr  uint64
}

// SetMemory makes mapping the guest's memory at guest physical address addr,
// as the given slot. The mapping must outlive the VM; both address and length
// are multiples of the page size.
func (v *VM) SetMemory(slot uint32, addr uint64, mapping []byte) error {
	r := memoryRegion{slot: slot, guestAddr: addr, size: uint64(len(mapping)), userAddr: addressOf(mapping)}
	if err := check("KVM_SET_USER_MEMORY_REGION", ioctlPtr(v.fd, kvmSetUserMemoryRegion, &r)); err != nil {
		return fmt.Errorf("set memory slot %d at %#x: %w", slot, addr, err)
	}
	return nil
}

// SetTSSAddr gives Intel's KVM three pages of guest physical addresses, below
// 4 GiB and free of anything else, for its own use.
func (v *VM) SetTSSAddr(addr uint64) error {
	_, errno := ioctl(v.fd, kvmSetTSSAddr, uintptr(addr))
	return check("KVM_SET_TSS_ADDR", errno)
}

// SetIdentityMapAddr gives Intel's KVM one more such page. It must precede the
// first vCPU.
func (v *VM) SetIdentityMapAddr(addr uint64) error {
	return check("KVM_SET_IDENTITY_MAP_ADDR", ioctlPtr(v.fd, kvmSetIdentityMapAddr, &addr))
}

// CreateIRQChip makes the two 8259, the IOAPIC and, with every later vCPU, its
// local APIC inside the kernel.
func (v *VM) CreateIRQChip() error {
	_, errno := ioctl(v.fd, kvmCreateIRQChip, 0)
	return check("KVM_CREATE_IRQCHIP", errno)
}

// pitConfig is struct kvm_pit_config.
type pitConfig struct {
	flags uint32
	_     [15]uint32
}

// pitSpeakerDummy makes the kernel answer port 0x61 itself
// (KVM_PIT_SPEAKER_DUMMY).
const pitSpeakerDummy = 1

// CreatePIT2 makes the 8254 timer inside the kernel; the interrupt chips must
// exist.
func (v *VM) CreatePIT2() error {
	c := pitConfig{flags: pitSpeakerDummy}
	return check("KVM_CREATE_PIT2", ioctlPtr(v.fd, kvmCreatePIT2, &c))
}

// Close gives the VM back. The kernel frees it once its VCPUs are closed too.
func (v *VM) Close() error { return unix.Close(v.fd) }
