package vmm

import (
	"os"
	"testing"

	"github.com/microvm/microvm/vmm/boot/boottest"
	"github.com/microvm/microvm/vmm/kvm/kvmtest"
)

// tinyConfig is a VM whose kernel is a few instructions, entered in 32-bit mode
// by PVH.
func tinyConfig(t *testing.T, code []byte) Config {
	t.Helper()
	return imageConfig(t, boottest.Image{Code: code, PVH: true})
}

func imageConfig(t *testing.T, image boottest.Image) Config {
	t.Helper()
	system := kvmtest.Require(t)
	f, err := os.CreateTemp(t.TempDir(), "kernel")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if _, err := f.Write(image.Bytes()); err != nil {
		t.Fatal(err)
	}
	return Config{KVM: system, CPUs: 1, Memory: MinMemory, Kernel: f, Console: new(Console)}
}

// newTiny assembles c.
func newTiny(t *testing.T, c Config) *VM {
	t.Helper()
	vm, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := vm.Close(); err != nil {
			t.Error(err)
		}
	})
	return vm
}

// program is machine code of 32-bit mode under construction.
type program []byte

// outb appends a write of v to an I/O port.
func (p program) outb(port uint16, v byte) program {
	return append(p, 0x66, 0xba, byte(port), byte(port>>8), 0xb0, v, 0xee) // mov dx; mov al; out dx, al
}

// print appends writes of s to the serial port.
func (p program) print(s string) program {
	for _, b := range []byte(s) {
		p = p.outb(0x3f8, b)
	}
	return p
}

// store appends a 4-byte write of v to addr.
func (p program) store(addr, v uint32) program {
	return append(p, 0xc7, 0x05, byte(addr), byte(addr>>8), byte(addr>>16), byte(addr>>24),
		byte(v), byte(v>>8), byte(v>>16), byte(v>>24)) // mov dword [addr], v
}

// sendByteAt appends a write of the byte at addr to the serial port.
func (p program) sendByteAt(addr uint32) program {
	return append(p, 0xa0, byte(addr), byte(addr>>8), byte(addr>>16), byte(addr>>24), // mov al, [addr]
		0x66, 0xba, 0xf8, 0x03, 0xee) // mov dx, 0x3f8; out dx, al
}

// sendByteFrom appends a write of what an I/O port reads to the serial port.
func (p program) sendByteFrom(port uint16) program {
	return append(p, 0x66, 0xba, byte(port), byte(port>>8), 0xec, // mov dx, port; in al, dx
		0x66, 0xba, 0xf8, 0x03, 0xee) // mov dx, 0x3f8; out dx, al
}

// stringOut appends the output of n bytes from addr on to a port, in one instruction.
func (p program) stringOut(port uint16, addr, n uint32) program {
	p = append(p, 0xfc, 0xbe, byte(addr), byte(addr>>8), byte(addr>>16), byte(addr>>24)) // cld; mov esi, addr
	return append(p.count(n), 0x66, 0xba, byte(port), byte(port>>8), 0xf3, 0x6e)         // mov dx, port; rep outsb
}

// stringIn appends the input of n times 4 bytes from a port to addr.
func (p program) stringIn(port uint16, addr, n uint32) program {
	p = append(p, 0xfc, 0xbf, byte(addr), byte(addr>>8), byte(addr>>16), byte(addr>>24)) // cld; mov edi, addr
	return append(p.count(n), 0x66, 0xba, byte(port), byte(port>>8), 0xf3, 0x6d)         // mov dx, port; rep insd
}

func (p program) count(n uint32) program {
	return append(p, 0xb9, byte(n), byte(n>>8), byte(n>>16), byte(n>>24)) // mov ecx, n
}

// forever appends an endless loop.
func (p program) forever() program { return append(p, 0xeb, 0xfe) }

// off appends a power-off.
func (p program) off() program { return p.outb(0x501, 0).forever() }
