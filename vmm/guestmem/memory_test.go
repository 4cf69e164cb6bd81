package guestmem

import (
	"errors"
	"math"
	"testing"
)

func twoRegions(t *testing.T) *Memory {
	t.Helper()
	m, err := Allocate("test", []Range{{Base: 0x1000, Size: 0x2000}, {Base: 0x10000, Size: 0x1000}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func TestSliceRefusesWhatIsNotInsideOneRegion(t *testing.T) {
	m := twoRegions(t)
	for _, c := range []struct {
		addr, n uint64
		ok      bool
	}{
		{0x1000, 0x2000, true},
		{0x2fff, 1, true},
		{0x3000, 0, true},
		{0x3000, 1, false},
		{0xfff, 1, false},
		{0, 1, false},
		{0x2fff, 2, false},
		{0x1000, math.MaxUint64, false},
		{math.MaxUint64, 2, false},
		{0x10fff, math.MaxUint64 - 0x10ffe, false},
		{0x10000, 0x1000, true},
		{0x10000, 0x1001, false},
	} {
		b, err := m.Slice(c.addr, c.n)
		if (err == nil) != c.ok {
			t.Errorf("Slice(%#x, %#x): err = %v, want ok = %v", c.addr, c.n, err, c.ok)
		}
		if err != nil && !errors.Is(err, ErrOutOfRange) {
			t.Errorf("Slice(%#x, %#x): %v is not ErrOutOfRange", c.addr, c.n, err)
		}
		if err == nil && (uint64(len(b)) != c.n || cap(b) != len(b)) {
			t.Errorf("Slice(%#x, %#x): len %d cap %d", c.addr, c.n, len(b), cap(b))
		}
	}
}

func TestWriteAtIsSeenThroughSlice(t *testing.T) {
	m := twoRegions(t)
	if err := m.WriteAt([]byte("abc"), 0x10ffd); err != nil {
		t.Fatal(err)
	}
	b, err := m.Slice(0x10ffd, 3)
	if err != nil || string(b) != "abc" {
		t.Fatalf("got %q, %v", b, err)
	}
	if err := m.WriteAt([]byte("abcd"), 0x10ffd); !errors.Is(err, ErrOutOfRange) {
		t.Fatalf("write past the end: %v", err)
	}
	if m.Size() != 0x3000 {
		t.Fatalf("size %#x", m.Size())
	}
}

func TestNewRefusesOverlap(t *testing.T) {
	_, err := New([]Region{{Base: 0, Data: make([]byte, 0x1000)}, {Base: 0xfff, Data: make([]byte, 16)}}, nil)
	if err == nil {
		t.Fatal("overlapping regions accepted")
	}
}
