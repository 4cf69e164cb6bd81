package kvm

// Regs is struct kvm_regs: the general-purpose registers.
type Regs struct {
	RAX, RBX, RCX, RDX uint64
	RSI, RDI, RSP, RBP uint64
	R8, R9, R10, R11   uint64
	R12, R13, R14, R15 uint64
	RIP, RFLAGS        uint64
}

// Segment is struct kvm_segment: a segment register with its hidden part.
type Segment struct {
	Base     uint64
	Limit    uint32
	Selector uint16
	Type     uint8
	Present  uint8
	DPL      uint8
	DB       uint8
	S        uint8
	L        uint8
	G        uint8
	AVL      uint8
	Unusable uint8
	_        uint8
}

// DTable is struct kvm_dtable: a descriptor table register.
type DTable struct {
	Base  uint64
	Limit uint16
	_     [3]uint16
}

// Sregs is struct kvm_sregs: segments and control registers.
type Sregs struct {
	CS, DS, ES, FS, GS, SS  Segment
	TR, LDT                 Segment
	GDT, IDT                DTable
	CR0, CR2, CR3, CR4, CR8 uint64
	EFER                    uint64
	APICBase                uint64
	InterruptBitmap         [4]uint64
}

// FPU is struct kvm_fpu: x87 and SSE state.
type FPU struct {
	FPR        [8][16]byte
	FCW        uint16
	FSW        uint16
	FTWX       uint8
	_          uint8
	LastOpcode uint16
	LastIP     uint64
	LastDP     uint64
	XMM        [16][16]byte
	MXCSR      uint32
	_          uint32
}

// LAPIC is struct kvm_lapic_state: the register page of a local APIC.
type LAPIC struct {
	Registers [1024]byte
}

// MPState is struct kvm_mp_state: whether a vCPU runs.
type MPState uint32

// States of a vCPU whose local APIC is in the kernel (KVM_MP_STATE_*).
const (
	MPRunnable      MPState = 0
	MPUninitialized MPState = 1
	MPInitReceived  MPState = 2
	MPHalted        MPState = 3
)

// Regs reads the general-purpose registers.
func (c *VCPU) Regs() (r Regs, err error) {
	err = check("KVM_GET_REGS", ioctlPtr(c.fd, kvmGetRegs, &r))
	return r, err
}

// SetRegs sets the general-purpose registers.
func (c *VCPU) SetRegs(r Regs) error {
	return check("KVM_SET_REGS", ioctlPtr(c.fd, kvmSetRegs, &r))
}

// Sregs reads segments and control registers.
func (c *VCPU) Sregs() (s Sregs, err error) {
	err = check("KVM_GET_SREGS", ioctlPtr(c.fd, kvmGetSregs, &s))
	return s, err
}

// SetSregs sets segments and control registers.
func (c *VCPU) SetSregs(s Sregs) error {
	return check("KVM_SET_SREGS", ioctlPtr(c.fd, kvmSetSregs, &s))
}

// SetFPU sets x87 and SSE state.
func (c *VCPU) SetFPU(f FPU) error {
	return check("KVM_SET_FPU", ioctlPtr(c.fd, kvmSetFPU, &f))
}

// LAPIC reads the registers of the vCPU's local APIC.
func (c *VCPU) LAPIC() (l LAPIC, err error) {
	err = check("KVM_GET_LAPIC", ioctlPtr(c.fd, kvmGetLAPIC, &l))
	return l, err
}

// SetLAPIC sets the registers of the vCPU's local APIC.
func (c *VCPU) SetLAPIC(l LAPIC) error {
	return check("KVM_SET_LAPIC", ioctlPtr(c.fd, kvmSetLAPIC, &l))
}

// MPState reads whether the vCPU runs.
func (c *VCPU) MPState() (m MPState, err error) {
	err = check("KVM_GET_MP_STATE", ioctlPtr(c.fd, kvmGetMPState, &m))
	return m, err
}
