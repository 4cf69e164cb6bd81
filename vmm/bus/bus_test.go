package bus

import (
	"bytes"
	"errors"
	"testing"
)

// memory is a device of 16 bytes that fails the test on a wrong access.
type memory struct {
	t     *testing.T
	bytes [16]byte
}

func (m *memory) Read(off uint64, p []byte) {
	if copy(p, m.bytes[off:]) != len(p) {
		m.t.Errorf("read of %d bytes at %d crosses the end", len(p), off)
	}
}

func (m *memory) Write(off uint64, p []byte) {
	if copy(m.bytes[off:], p) != len(p) {
		m.t.Errorf("write of %d bytes at %d crosses the end", len(p), off)
	}
}

func newBus(t *testing.T, bases ...uint64) *Bus {
	t.Helper()
	b := New("test", nil)
	for _, base := range bases {
		if err := b.Insert(base, 16, &memory{t: t}); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func TestAccessReachesItsDevice(t *testing.T) {
	b := newBus(t, 0x2000, 0x1000, 0x1010)
	for i, base := range []uint64{0x1000, 0x1010, 0x2000} {
		for _, width := range []int{1, 2, 3, 4, 8} {
			want := bytes.Repeat([]byte{byte(i + 1)}, width)
			addr := base + 16 - uint64(width)
			b.Write(addr, want)
			got := make([]byte, width)
			b.Read(addr, got)
			if !bytes.Equal(got, want) {
				t.Errorf("%d bytes at %#x: got %x, want %x", width, addr, got, want)
			}
		}
	}
	if b.Unknown() != 0 {
		t.Errorf("%d unknown accesses", b.Unknown())
	}
}

func TestUnknownAndCrossingAccesses(t *testing.T) {
	misses := 0
	b := New("test", func(uint64, int, bool) { misses++ })
	for _, base := range []uint64{0x1000, 0x1010} {
		if err := b.Insert(base, 16, &memory{t: t}); err != nil {
			t.Fatal(err)
		}
	}
	addrs := []uint64{0, 0xffc, 0xfff, 0x100d, 0x101d, 0x1020, 1<<64 - 1, 1<<64 - 4}
	for _, addr := range addrs {
		p := []byte{0, 0, 0, 0}
		b.Write(addr, p)
		b.Read(addr, p)
		if !bytes.Equal(p, []byte{0xff, 0xff, 0xff, 0xff}) {
			t.Errorf("read at %#x: got %x, want all ones", addr, p)
		}
	}
	if want := 2 * len(addrs); misses != want || b.Unknown() != uint64(want) {
		t.Errorf("%d reported and %d counted, want %d", misses, b.Unknown(), want)
	}
}

func TestInsertRefusesOverlap(t *testing.T) {
	b := newBus(t, 0x1000)
	for _, r := range [][2]uint64{{0x1000, 16}, {0xfff, 2}, {0x100f, 1}, {0x1004, 4}, {0, 1 << 20}} {
		if err := b.Insert(r[0], r[1], &memory{}); !errors.Is(err, ErrTaken) {
			t.Errorf("insert %#x+%#x: %v", r[0], r[1], err)
		}
	}
	for _, r := range [][2]uint64{{0x3000, 0}, {1<<64 - 1, 2}} {
		if err := b.Insert(r[0], r[1], &memory{}); err == nil {
			t.Errorf("insert %#x+%#x was accepted", r[0], r[1])
		}
	}
}
