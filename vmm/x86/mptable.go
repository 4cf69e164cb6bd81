package x86

import (
	"encoding/binary"
	"fmt"

	"github.com/microvm/microvm/vmm/guestmem"
)

// MaxCPUs is what APIC ids of 8 bits allow: one is the IOAPIC's, 255 is
// everybody.
const MaxCPUs = 254

// Entry types and flags of the MultiProcessor Specification 1.4, section 4.3.
const (
	mpProcessor      = 0
	mpBus            = 1
	mpIOAPIC         = 2
	mpIOInterrupt    = 3
	mpLocalInterrupt = 4

	mpEnabled       = 1
	mpBootProcessor = 2

	mpINT    = 0
	mpNMI    = 1
	mpExtINT = 3

	apicVersion = 0x14
	isaBus      = 0
)

// WriteMPTable describes cpus processors, the IOAPIC and the interrupt lines
// to a kernel without ACPI. All lines are ISA's: edge triggered, active high.
func WriteMPTable(mem *guestmem.Memory, cpus int) error {
	if cpus < 1 || cpus > MaxCPUs {
		return fmt.Errorf("write MP table: %d processors, want 1 to %d", cpus, MaxCPUs)
	}
	const header = 16
	table := mpConfigTable(cpus)
	b := append(mpFloatingPointer(MPTableAddr+header), table...)
	if len(b) > MPTableEnd-MPTableAddr {
		return fmt.Errorf("write MP table: %d bytes are too many", len(b))
	}
	if err := mem.WriteAt(b, MPTableAddr); err != nil {
		return fmt.Errorf("write MP table: %w", err)
	}
	return nil
}

// mpFloatingPointer is what a kernel looks for (section 4.1).
func mpFloatingPointer(table uint32) []byte {
	b := append([]byte("_MP_"), 0, 0, 0, 0, 1, 4, 0, 0, 0, 0, 0, 0)
	binary.LittleEndian.PutUint32(b[4:], table)
	b[10] = checksum(b)
	return b
}

// mpConfigTable is the header (section 4.2) and its entries, in ascending
// order of type.
func mpConfigTable(cpus int) []byte {
	e := mpEntries{ioapic: byte(cpus)}
	for i := range cpus {
		e.processor(byte(i))
	}
	e.add(mpBus, isaBus, 'I', 'S', 'A', ' ', ' ', ' ')
	e.add(mpIOAPIC, e.ioapic, apicVersion, mpEnabled, 0, 0, 0xc0, 0xfe) // IOAPICAddr
	for pin := range byte(IOAPICPins) {
		e.add(mpIOInterrupt, mpINT, 0, 0, isaBus, pin, e.ioapic, pin)
	}
	e.add(mpLocalInterrupt, mpExtINT, 0, 0, isaBus, 0, 0, 0)
	e.add(mpLocalInterrupt, mpNMI, 0, 0, isaBus, 0, 0xff, 1)

	const header = 44
	b := make([]byte, header, header+len(e.b))
	copy(b, "PCMP")
	binary.LittleEndian.PutUint16(b[4:], uint16(header+len(e.b)))
	b[6] = 4 // revision 1.4
	copy(b[8:], "MICROVM ")
	copy(b[16:], "MICROVM     ")
	binary.LittleEndian.PutUint16(b[34:], uint16(e.n))
	binary.LittleEndian.PutUint32(b[36:], LAPICAddr)
	b = append(b, e.b...)
	b[7] = checksum(b)
	return b
}

// mpEntries collects entries of the configuration table.
type mpEntries struct {
	b      []byte
	n      int
	ioapic byte
}

func (e *mpEntries) add(b ...byte) {
	e.b = append(e.b, b...)
	e.n++
}

// processor adds a processor; its signature and features are for kernels
// without CPUID.
func (e *mpEntries) processor(id byte) {
	flags := byte(mpEnabled)
	if id == 0 {
		flags |= mpBootProcessor
	}
	e.add(mpProcessor, id, apicVersion, flags,
		0x00, 0x06, 0, 0, // family 6
		0x01, 0x02, 0, 0, // FPU and APIC
		0, 0, 0, 0, 0, 0, 0, 0)
}

// checksum is the byte that makes b sum up to zero.
func checksum(b []byte) byte {
	var sum byte
	for _, x := range b {
		sum += x
	}
	return -sum
}
