package x86

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/microvm/microvm/vmm/guestmem"
	"github.com/microvm/microvm/vmm/kvm"
)

func memory(t *testing.T) *guestmem.Memory {
	t.Helper()
	m, err := guestmem.Allocate("x86-test", []guestmem.Range{{Base: 0, Size: 2 << 20}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func read(t *testing.T, m *guestmem.Memory, addr, n uint64) []byte {
	t.Helper()
	b, err := m.Slice(addr, n)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRAMLeavesTheDeviceHoleFree(t *testing.T) {
	for _, size := range []uint64{1 << 20, DeviceHole, DeviceHole + 1<<20, 64 << 30} {
		var total uint64
		for _, r := range RAM(size) {
			total += r.Size
			if r.Base < DeviceHoleEnd && r.Base+r.Size > DeviceHole {
				t.Errorf("%d MiB: %#x+%#x is in the device hole", size>>20, r.Base, r.Size)
			}
		}
		if total != size {
			t.Errorf("%d MiB became %d", size>>20, total>>20)
		}
	}
}

func TestSlotsStayBelowTheIOAPIC(t *testing.T) {
	addr, irq := VirtioSlot(MaxVirtioDevices - 1)
	if addr+VirtioSize > IOAPICAddr || irq >= IOAPICPins {
		t.Errorf("last slot is at %#x with interrupt %d", addr, irq)
	}
}

func TestDescriptors(t *testing.T) {
	for _, test := range []struct {
		name string
		s    kvm.Segment
		want uint64
	}{
		{"null", kvm.Segment{}, 0},
		{"64-bit code", codeSegment(false), 0x00af9b000000ffff},
		{"32-bit code", codeSegment(true), 0x00cf9b000000ffff},
		{"data", dataSegment(), 0x00cf93000000ffff},
		{"shortest task", taskSegment(true), 0x00008b0000000067},
	} {
		if got := descriptor(test.s); got != test.want {
			t.Errorf("%s: %#016x, want %#016x", test.name, got, test.want)
		}
	}
}

func TestPageTablesMapFourGiBToThemselves(t *testing.T) {
	m := memory(t)
	if err := WriteEntryTables(m, Entry{}); err != nil {
		t.Fatal(err)
	}
	entry := func(table, i uint64) uint64 { return binary.LittleEndian.Uint64(read(t, m, table+8*i, 8)) }
	for _, addr := range []uint64{0, 1 << 20, 0x1234_5678, DeviceHoleEnd - 1} {
		e := entry(PML4Addr, addr>>39)
		e = entry(e&^0xfff, addr>>30&511)
		e = entry(e&^0xfff, addr>>21&511)
		if got := e&^0x1f_ffff | addr&0x1f_ffff; got != addr || e&0x83 != 0x83 {
			t.Errorf("%#x maps to %#x with flags %#x", addr, got, e&0xfff)
		}
	}
}

func TestMPTable(t *testing.T) {
	for _, cpus := range []int{1, 2, 17, MaxCPUs} {
		m := memory(t)
		if err := WriteMPTable(m, cpus); err != nil {
			t.Fatal(err)
		}
		pointer := read(t, m, MPTableAddr, 16)
		if string(pointer[:4]) != "_MP_" || checksum(pointer) != 0 {
			t.Fatalf("floating pointer %x", pointer)
		}
		table := uint64(binary.LittleEndian.Uint32(pointer[4:]))
		header := read(t, m, table, 44)
		whole := read(t, m, table, uint64(binary.LittleEndian.Uint16(header[4:])))
		if string(header[:4]) != "PCMP" || checksum(whole) != 0 || binary.LittleEndian.Uint32(header[36:]) != LAPICAddr {
			t.Errorf("header %x", header)
		}
		checkMPEntries(t, whole[44:], int(binary.LittleEndian.Uint16(header[34:])), cpus)
	}
}

// checkMPEntries walks n entries as a kernel does.
func checkMPEntries(t *testing.T, b []byte, n, cpus int) {
	t.Helper()
	counts := map[byte]int{}
	ids := map[byte]bool{}
	for range n {
		kind, size := b[0], 8
		counts[kind]++
		switch kind {
		case mpProcessor:
			size = 20
			if boot := b[3]&mpBootProcessor != 0; ids[b[1]] || boot != (b[1] == 0) {
				t.Errorf("processor %d: doubled, or boot is %v", b[1], boot)
			}
			ids[b[1]] = true
		case mpIOAPIC:
			if ids[b[1]] || binary.LittleEndian.Uint32(b[4:]) != IOAPICAddr {
				t.Errorf("IOAPIC %d at %#x", b[1], binary.LittleEndian.Uint32(b[4:]))
			}
		}
		b = b[size:]
	}
	if len(b) != 0 || counts[mpProcessor] != cpus || counts[mpIOAPIC] != 1 || counts[mpIOInterrupt] != IOAPICPins {
		t.Errorf("%d bytes left, entries by type: %v", len(b), counts)
	}
}

func TestMPTableRefusesTooManyProcessors(t *testing.T) {
	for _, n := range []int{0, MaxCPUs + 1} {
		if err := WriteMPTable(memory(t), n); err == nil || !strings.Contains(err.Error(), "processors") {
			t.Errorf("%d processors: %v", n, err)
		}
	}
}

func TestSpare(t *testing.T) {
	const gib = 1 << 30
	for _, c := range []struct {
		size, most uint64
		parameters string
	}{
		{gib, gib, ""},
		{gib, 0, ""},
		{gib, 2 * gib, " microvm.spare=0x40000000-0x80000000"},
		{gib, 5 * gib, " microvm.spare=0x40000000-0xc0000000,0x100000000-0x180000000"},
		{4 * gib, 5 * gib, " microvm.spare=0x140000000-0x180000000"},
	} {
		if got := GrowthParameters(1, 1, Spare(c.size, c.most)); got != c.parameters {
			t.Errorf("%d of %d: %q", c.size, c.most, got)
		}
	}
	if got := GrowthParameters(2, 4, nil); got != " maxcpus=2" {
		t.Errorf("processors: %q", got)
	}
}
