package kvm

// irqLevel is struct kvm_irq_level.
type irqLevel struct {
	irq   uint32
	level uint32
}

// IRQLine sets the level of a global interrupt line.
func (v *VM) IRQLine(gsi uint32, high bool) error {
	l := irqLevel{irq: gsi}
	if high {
		l.level = 1
	}
	return check("KVM_IRQ_LINE", ioctlPtr(v.fd, kvmIRQLine, &l))
}

// irqFD is struct kvm_irqfd.
type irqFD struct {
	fd  uint32
	gsi uint32
	_   uint32 // flags
	_   uint32 // resamplefd
	_   [16]byte
}

// IRQFD makes every ring of the eventfd an edge on the interrupt line, for as
// long as the VM lives. The interrupt chips must exist.
func (v *VM) IRQFD(eventfd int, gsi uint32) error {
	a := irqFD{fd: uint32(eventfd), gsi: gsi}
	return check("KVM_IRQFD", ioctlPtr(v.fd, kvmIRQFD, &a))
}

// ioEventFD is struct kvm_ioeventfd.
type ioEventFD struct {
	dataMatch uint64
	addr      uint64
	len       uint32
	fd        int32
	flags     uint32
	_         [36]byte
}

const ioEventFDDataMatch = 1 // KVM_IOEVENTFD_FLAG_DATAMATCH

// IOEventFD makes a 4-byte write of value to guest physical address addr ring
// the eventfd instead of causing an exit, for as long as the VM lives.
func (v *VM) IOEventFD(eventfd int, addr uint64, value uint32) error {
	a := ioEventFD{dataMatch: uint64(value), addr: addr, len: 4, fd: int32(eventfd), flags: ioEventFDDataMatch}
	return check("KVM_IOEVENTFD", ioctlPtr(v.fd, kvmIOEventFD, &a))
}
