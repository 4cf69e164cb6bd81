package x86

import (
	"encoding/binary"

	"github.com/microvm/microvm/vmm/kvm"
)

// Model-specific registers whose value at power-on is not what a kernel
// expects of its firmware.
const (
	msrMiscEnable  = 0x1a0
	msrMTRRDefType = 0x2ff
	fastString     = 1 << 0  // MISC_ENABLE
	mtrrEnable     = 1 << 11 // MTRRdefType
	mtrrWriteBack  = 6
	lapicLVT0      = 0x350
	lapicLVT1      = 0x360
	deliveryNMI    = 4 << 8
	deliveryExtINT = 7 << 8
	deliveryMask   = 7 << 8
	lvtMasked      = 1 << 16
	defaultFCW     = 0x37f
	defaultMXCSR   = 0x1f80
)

// SetCommon gives any processor what firmware would have set. It comes after
// the processor's CPUID.
func SetCommon(c *kvm.VCPU) error {
	msrs := []kvm.MSR{
		{Index: msrMiscEnable, Value: fastString},
		{Index: msrMTRRDefType, Value: mtrrEnable | mtrrWriteBack},
	}
	if err := c.SetMSRs(msrs); err != nil {
		return err
	}
	if err := c.SetFPU(kvm.FPU{FCW: defaultFCW, MXCSR: defaultMXCSR}); err != nil {
		return err
	}
	return setLINT(c)
}

// setLINT wires the local interrupt pins as on a PC: LINT0 to the 8259, LINT1
// to the non-maskable interrupt.
func setLINT(c *kvm.VCPU) error {
	l, err := c.LAPIC()
	if err != nil {
		return err
	}
	setLVT(&l, lapicLVT0, deliveryExtINT)
	setLVT(&l, lapicLVT1, deliveryNMI)
	return c.SetLAPIC(l)
}

func setLVT(l *kvm.LAPIC, offset int, delivery uint32) {
	r := l.Registers[offset:]
	v := binary.LittleEndian.Uint32(r)
	binary.LittleEndian.PutUint32(r, v&^(deliveryMask|lvtMasked)|delivery)
}
