package boot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/microvm/microvm/vmm/boot/boottest"
	"github.com/microvm/microvm/vmm/guestmem"
	"github.com/microvm/microvm/vmm/x86"
)

const memSize = 4 << 20

var ram = []guestmem.Range{{Base: 0, Size: memSize}}

func memory(t testing.TB) *guestmem.Memory {
	t.Helper()
	m, err := guestmem.Allocate("boot-test", ram)
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

func TestLoad(t *testing.T) {
	for _, pvh := range []bool{true, false} {
		mem := memory(t)
		image := boottest.Image{Code: []byte("kernel code"), BSS: 100, PVH: pvh, Entry: boottest.Addr + 4}
		k, err := Load(mem, bytes.NewReader(image.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		want := Kernel{Entry: boottest.Addr + 4, End: boottest.Addr + 11 + 100}
		if pvh {
			want.Entry, want.PVH = boottest.Addr, true
		}
		if k != want {
			t.Errorf("got %+v, want %+v", k, want)
		}
		if got := read(t, mem, boottest.Addr, 12); string(got) != "kernel code\x00" {
			t.Errorf("loaded %q", got)
		}
	}
}

func TestLoadRefuses(t *testing.T) {
	le := binary.LittleEndian
	good := func() []byte { return boottest.Image{Code: []byte("code"), PVH: true}.Bytes() }
	const segment = 64 // the first program header
	for _, test := range []struct {
		name, want string
		image      func() []byte
	}{
		{"nothing", "header", func() []byte { return nil }},
		{"text", "no 64-bit ELF", func() []byte { return bytes.Repeat([]byte("text"), 100) }},
		{"bzImage", "uncompressed vmlinux", func() []byte { return append([]byte("MZ"), make([]byte, 100)...) }},
		{"other machine", "machine 183", func() []byte { b := good(); b[18] = 183; return b }},
		{"32 bits", "no 64-bit ELF", func() []byte { b := good(); b[4] = 1; return b }},
		{"no program headers", "0 program headers", func() []byte { b := good(); b[56] = 0; return b }},
		{"too many program headers", "65 program headers", func() []byte { b := good(); b[56] = 65; return b }},
		{"odd program headers", "of 57 bytes", func() []byte { b := good(); b[54] = 57; return b }},
		{"program headers past the end", "program headers", func() []byte { b := good(); le.PutUint64(b[32:], 1<<40); return b }},
		{"program headers at -1", "program headers", func() []byte { b := good(); le.PutUint64(b[32:], 1<<64-1); return b }},
		{"segment below 1 MiB", "segment", func() []byte { return boottest.Image{Code: []byte("code"), Addr: 0x9000}.Bytes() }},
		{"segment past memory", "does not fit", func() []byte { return boottest.Image{Code: []byte("code"), BSS: memSize}.Bytes() }},
		{"segment that wraps", "segment", func() []byte { return boottest.Image{Code: []byte("code"), BSS: 1<<64 - 8}.Bytes() }},
		{"segment past the file", "read segment", func() []byte { b := good(); le.PutUint64(b[segment+8:], 1<<20); return b }},
		{"segment at -1 of the file", "read segment", func() []byte { b := good(); le.PutUint64(b[segment+8:], 1<<63); return b }},
		{"more in the file than in memory", "segment", func() []byte { b := good(); le.PutUint64(b[segment+40:], 1); return b }},
		{"entry outside", "entry", func() []byte { return boottest.Image{Code: []byte("code"), Entry: 0x20_0000}.Bytes() }},
		{"entry below 1 MiB", "entry", func() []byte { return boottest.Image{Code: []byte("code"), Entry: 0x100}.Bytes() }},
	} {
		_, err := Load(memory(t), bytes.NewReader(test.image()))
		if !errors.Is(err, ErrKernel) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", test.name, err, test.want)
		}
	}
}

func TestBrokenNotesAreNoPVHEntry(t *testing.T) {
	const note = 64 + 2*56
	for name, change := range map[string]func(b []byte){
		"huge name":      func(b []byte) { binary.LittleEndian.PutUint32(b[note:], 0xffff_ffff) },
		"huge desc":      func(b []byte) { binary.LittleEndian.PutUint32(b[note+4:], 0xffff_fffd) },
		"other owner":    func(b []byte) { b[note+12] = 'Y' },
		"other kind":     func(b []byte) { b[note+8] = 17 },
		"desc of 3":      func(b []byte) { b[note+4] = 3 },
		"notes past end": func(b []byte) { binary.LittleEndian.PutUint64(b[64+56+8:], 1<<40) },
		"notes too long": func(b []byte) { binary.LittleEndian.PutUint64(b[64+56+32:], 1<<40) },
	} {
		b := boottest.Image{Code: []byte("code"), PVH: true}.Bytes()
		change(b)
		k, err := Load(memory(t), bytes.NewReader(b))
		if err != nil || k.PVH {
			t.Errorf("%s: %+v, %v", name, k, err)
		}
	}
}

func TestPlacePVH(t *testing.T) {
	mem := memory(t)
	initramfs := bytes.Repeat([]byte("init"), 1500)
	e, err := Place(mem, Kernel{Entry: boottest.Addr, PVH: true, End: 2 << 20}, Params{
		Cmdline: "console=x", RAM: ram, Initramfs: Image{bytes.NewReader(initramfs), int64(len(initramfs))},
	})
	if err != nil {
		t.Fatal(err)
	}
	if e != (x86.Entry{RIP: boottest.Addr, Info: x86.StartInfoAddr, PVH: true}) {
		t.Fatalf("entry %+v", e)
	}
	le := binary.LittleEndian
	info := read(t, mem, e.Info, startInfoSize)
	if le.Uint32(info) != startInfoMagic || le.Uint32(info[4:]) != 1 || le.Uint32(info[12:]) != 1 {
		t.Errorf("magic %#x, version %d, %d modules", le.Uint32(info), le.Uint32(info[4:]), le.Uint32(info[12:]))
	}
	if got := read(t, mem, le.Uint64(info[24:]), 10); string(got) != "console=x\x00" {
		t.Errorf("command line %q", got)
	}
	module := read(t, mem, le.Uint64(info[16:]), moduleSize)
	base, size := le.Uint64(module), le.Uint64(module[8:])
	if base%pageSize != 0 || !bytes.Equal(read(t, mem, base, size), initramfs) {
		t.Errorf("initramfs is not at %#x+%#x", base, size)
	}
	var got []x86.MemoryMapEntry
	for i := range uint64(le.Uint32(info[48:])) {
		m := read(t, mem, le.Uint64(info[40:])+24*i, 24)
		got = append(got, x86.MemoryMapEntry{Addr: le.Uint64(m), Size: le.Uint64(m[8:]), Type: le.Uint32(m[16:])})
	}
	if len(got) != 2 || got[0] != (x86.MemoryMapEntry{Addr: 0, Size: 0x9fc00, Type: 1}) ||
		got[1] != (x86.MemoryMapEntry{Addr: 1 << 20, Size: memSize - 1<<20, Type: 1}) {
		t.Errorf("memory map %+v", got)
	}
}

func TestPlaceZeroPage(t *testing.T) {
	mem := memory(t)
	e, err := Place(mem, Kernel{Entry: boottest.Addr, End: 2 << 20}, Params{Cmdline: "quiet", RAM: ram})
	if err != nil {
		t.Fatal(err)
	}
	if e != (x86.Entry{RIP: boottest.Addr, Info: x86.ZeroPageAddr}) {
		t.Fatalf("entry %+v", e)
	}
	b := read(t, mem, e.Info, zeroPageSize)
	le := binary.LittleEndian
	if le.Uint16(b[0x1fe:]) != 0xaa55 || string(b[0x202:0x206]) != "HdrS" {
		t.Error("no signature")
	}
	if b[0x1e8] != 2 || le.Uint64(b[0x2d0+20:]) != 1<<20 || le.Uint32(b[0x2d0+36:]) != 1 {
		t.Errorf("%d memory map entries: %x", b[0x1e8], b[0x2d0:0x2f8])
	}
	if le.Uint32(b[0x218:]) != 0 || le.Uint32(b[0x21c:]) != 0 {
		t.Error("an initramfs out of nowhere")
	}
	if got := read(t, mem, uint64(le.Uint32(b[0x228:])), 6); string(got) != "quiet\x00" {
		t.Errorf("command line %q", got)
	}
}

func TestPlaceRefuses(t *testing.T) {
	large := make([]byte, 3<<20)
	for _, test := range []struct {
		name   string
		params Params
		want   error
	}{
		{"initramfs on the kernel", Params{Initramfs: Image{bytes.NewReader(large), int64(len(large))}}, ErrMemory},
		{"initramfs beyond memory", Params{Initramfs: Image{bytes.NewReader(large), 1 << 40}}, ErrMemory},
		{"negative size", Params{Initramfs: Image{bytes.NewReader(large), -1}}, ErrMemory},
		{"initramfs that is short", Params{Initramfs: Image{strings.NewReader("short"), 100}}, nil},
		{"long command line", Params{Cmdline: strings.Repeat("x", 2048)}, nil},
		{"newline in the command line", Params{Cmdline: "a\nb"}, nil},
	} {
		test.params.RAM = ram
		_, err := Place(memory(t), Kernel{Entry: boottest.Addr, End: 2 << 20}, test.params)
		if err == nil || test.want != nil && !errors.Is(err, test.want) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add(boottest.Image{Code: []byte("code"), PVH: true}.Bytes())
	f.Add(boottest.Image{Code: []byte("code"), BSS: 4096}.Bytes())
	mem := memory(f)
	f.Fuzz(func(t *testing.T, image []byte) {
		k, err := Load(mem, bytes.NewReader(image))
		if err == nil && (k.Entry < x86.HighMemory || k.End > memSize) {
			t.Errorf("accepted %+v", k)
		}
		if err != nil && !errors.Is(err, ErrKernel) {
			t.Errorf("error of another kind: %v", err)
		}
	})
}
