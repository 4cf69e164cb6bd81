package kvm

import "fmt"

// MSR is struct kvm_msr_entry: one model-specific register.
type MSR struct {
	Index uint32
	_     uint32
	Value uint64
}

// SetMSRs sets the registers in order. It fails at the first one that KVM
// refuses, and names it.
func (c *VCPU) SetMSRs(msrs []MSR) error {
	h, room := packed[MSR](len(msrs))
	copy(room, msrs)
	n, errno := ioctlPtrResult(c.fd, kvmSetMSRs, h)
	if errno != 0 {
		return fmt.Errorf("KVM_SET_MSRS: %w", errno)
	}
	if n < len(msrs) {
		return fmt.Errorf("KVM_SET_MSRS: register %#x was refused", msrs[n].Index)
	}
	return nil
}

// GetMSR reads one register.
func (c *VCPU) GetMSR(index uint32) (uint64, error) {
	h, room := packed[MSR](1)
	room[0].Index = index
	n, errno := ioctlPtrResult(c.fd, kvmGetMSRs, h)
	if errno != 0 {
		return 0, fmt.Errorf("KVM_GET_MSRS: %w", errno)
	}
	if n != 1 {
		return 0, fmt.Errorf("KVM_GET_MSRS: register %#x is unknown", index)
	}
	return room[0].Value, nil
}
