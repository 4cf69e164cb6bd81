package kvm_test

import (
	"bytes"
	"errors"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/vmm/kvm"
	"github.com/microvm/microvm/vmm/virtio"
)

func TestPortIO(t *testing.T) {
	g := newGuest(t, []byte{
		0xb0, 0x41, // mov al, 0x41
		0xe6, 0x10, // out 0x10, al
		0xba, 0x34, 0x12, // mov dx, 0x1234
		0xed,       // in ax, dx
		0xe7, 0x11, // out 0x11, ax
		0xf4, // hlt
	}, options{})
	expect := func(want kvm.IO) kvm.IO {
		t.Helper()
		g.run(t, kvm.ExitIO)
		io, err := g.cpu.IO()
		must(t, err)
		if io.In != want.In || io.Size != want.Size || io.Port != want.Port || !want.In && !bytes.Equal(io.Data, want.Data) {
			t.Fatalf("got %+v, want %+v", io, want)
		}
		return io
	}
	expect(kvm.IO{Size: 1, Port: 0x10, Data: []byte{0x41}})
	copy(expect(kvm.IO{In: true, Size: 2, Port: 0x1234}).Data, []byte{0xcd, 0xab})
	expect(kvm.IO{Size: 2, Port: 0x11, Data: []byte{0xcd, 0xab}})
	g.run(t, kvm.ExitHLT)
}

func TestStringIO(t *testing.T) {
	g := newGuest(t, []byte{
		0xfc,             // cld
		0xbe, 0x00, 0x20, // mov si, 0x2000
		0xb9, 0x05, 0x00, // mov cx, 5
		0xba, 0xf8, 0x03, // mov dx, 0x3f8
		0xf3, 0x6e, // rep outsb
		0xf4, // hlt
	}, options{})
	must(t, g.mem.WriteAt([]byte("hello"), 0x2000))
	var got []byte
	for len(got) < 5 {
		g.run(t, kvm.ExitIO)
		io, err := g.cpu.IO()
		must(t, err)
		got = append(got, io.Data...)
	}
	if string(got) != "hello" {
		t.Errorf("got %q", got)
	}
	g.run(t, kvm.ExitHLT)
}

func TestMMIO(t *testing.T) {
	g := newGuest(t, []byte{
		0xb8, 0x00, 0xf0, // mov ax, 0xf000
		0x8e, 0xd8, // mov ds, ax
		0xc7, 0x06, 0x00, 0xfd, 0x34, 0x12, // mov word [0xfd00], 0x1234
		0xa0, 0x01, 0xfd, // mov al, [0xfd01]
		0xe6, 0x10, // out 0x10, al
	}, options{})
	// Take the upper half of the memory away: 0xffd00 has none now.
	must(t, g.vm.SetMemory(0, 0, nil))
	must(t, g.vm.SetMemory(0, 0, g.mem.Regions()[0].Data[:memSize/2]))
	g.run(t, kvm.ExitMMIO)
	m, err := g.cpu.MMIO()
	must(t, err)
	if m.Addr != 0xffd00 || !m.Write || !bytes.Equal(m.Data, []byte{0x34, 0x12}) {
		t.Fatalf("got %+v", m)
	}
	g.run(t, kvm.ExitMMIO)
	m, err = g.cpu.MMIO()
	must(t, err)
	if m.Addr != 0xffd01 || m.Write || len(m.Data) != 1 {
		t.Fatalf("got %+v", m)
	}
	m.Data[0] = 0x77
	g.run(t, kvm.ExitIO)
	io, err := g.cpu.IO()
	must(t, err)
	if io.Data[0] != 0x77 {
		t.Errorf("guest read %#x", io.Data[0])
	}
}

func TestTripleFault(t *testing.T) {
	g := newGuest(t, []byte{0x0f, 0x0b}, options{}) // ud2, and nowhere to go with it
	g.flat(t)
	g.run(t, kvm.ExitShutdown)
}

func TestFailureNamesItsCause(t *testing.T) {
	g := newGuest(t, []byte{0xf4}, options{})
	for e, want := range map[kvm.Exit]string{
		kvm.ExitInternalError: "KVM_EXIT_INTERNAL_ERROR: suberror",
		kvm.ExitFailEntry:     "KVM_EXIT_FAIL_ENTRY: hardware reason",
		kvm.ExitUnknown:       "KVM_EXIT_UNKNOWN: hardware reason",
		kvm.Exit(77):          "unexpected KVM_EXIT 77",
	} {
		if err := g.cpu.Failure(e); !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %q, want %q in it", e, err, want)
		}
	}
}

func TestKickBeforeRun(t *testing.T) {
	g := newGuest(t, []byte{0xeb, 0xfe}, options{}) // jmp $
	g.cpu.Kick()
	g.run(t, kvm.ExitKicked)
	g.run(t, kvm.ExitKicked)
}

// A kick reaches a guest that does not exit by itself, whether it spins or
// sleeps in the kernel.
func TestKickWhileRunning(t *testing.T) {
	for name, code := range map[string][]byte{
		"spinning":                     {0xb0, 1, 0xe6, 0x10, 0xeb, 0xfe}, // out; jmp $
		"halted with interrupts off":   {0xb0, 1, 0xe6, 0x10, 0xfa, 0xf4}, // out; cli; hlt
		"spinning on instructions out": {0xb0, 1, 0xe6, 0x10, 0xeb, 0xfc}, // out; jmp out
	} {
		t.Run(name, func(t *testing.T) {
			g := newGuest(t, code, options{chips: true})
			running, ended := make(chan struct{}), make(chan error, 1)
			go func() {
				runtime.LockOSThread()
				for first := true; ; first = false {
					e, err := g.cpu.Run()
					if err != nil || e == kvm.ExitKicked {
						ended <- err
						return
					}
					if first {
						close(running)
					}
				}
			}()
			<-running
			g.cpu.Kick()
			must(t, <-ended)
		})
	}
}

func TestIOEventFDRingsWithoutAnExit(t *testing.T) {
	const addr = 0xffd50
	g := newGuest(t, []byte{
		0xb8, 0x00, 0xf0, // mov ax, 0xf000
		0x8e, 0xd8, // mov ds, ax
		0x66, 0xc7, 0x06, 0x50, 0xfd, 1, 0, 0, 0, // mov dword [0xfd50], 1
		0x66, 0xc7, 0x06, 0x50, 0xfd, 2, 0, 0, 0, // mov dword [0xfd50], 2
		0xf4, // hlt
	}, options{})
	must(t, g.vm.SetMemory(0, 0, nil))
	must(t, g.vm.SetMemory(0, 0, g.mem.Regions()[0].Data[:memSize/2]))
	bell, err := virtio.NewEventFD()
	must(t, err)
	defer bell.Close()
	must(t, g.vm.IOEventFD(bell.FD(), addr, 1))
	// The value 2 does not match, so it is the first that exits.
	g.run(t, kvm.ExitMMIO)
	if m, err := g.cpu.MMIO(); err != nil || m.Addr != addr || m.Data[0] != 2 {
		t.Fatalf("got %+v, %v", m, err)
	}
	if !bell.Wait() {
		t.Error("doorbell was not rung")
	}
	if err := g.vm.IOEventFD(bell.FD(), addr, 1); !errors.Is(err, unix.EEXIST) {
		t.Errorf("the same doorbell twice: %v", err)
	}
}

// A ring of the eventfd wakes the guest from HLT through the 8259, and its
// handler reports.
func TestIRQFDInterruptsTheGuest(t *testing.T) {
	handler := []byte{0xb0, 0x99, 0xe6, 0x10, 0xf4} // mov al, 0x99; out 0x10, al; hlt
	g := newGuest(t, []byte{
		0xb0, 0x11, 0xe6, 0x20, // 8259: initialise, four words follow
		0xb0, 0x20, 0xe6, 0x21, // vectors from 0x20
		0xb0, 0x04, 0xe6, 0x21, // slave at line 2
		0xb0, 0x01, 0xe6, 0x21, // 8086 mode
		0xb0, 0xdf, 0xe6, 0x21, // all masked but line 5
		0xe6, 0x11, // out 0x11, al: ready
		0xfb,       // sti
		0xf4,       // hlt
		0xeb, 0xfd, // jmp hlt
	}, options{chips: true})
	must(t, g.mem.WriteAt(handler, 0x3000))
	must(t, g.mem.WriteAt([]byte{0x00, 0x30, 0, 0}, 4*0x25)) // real-mode vector of line 5
	enableExtINT(t, g.cpu)
	bell, err := virtio.NewEventFD()
	must(t, err)
	defer bell.Close()
	must(t, g.vm.IRQFD(bell.FD(), 5))
	g.run(t, kvm.ExitIO) // ready
	bell.Ring()
	g.run(t, kvm.ExitIO)
	if io, err := g.cpu.IO(); err != nil || io.Data[0] != 0x99 {
		t.Errorf("got %+v, %v", io, err)
	}
}

// enableExtINT lets interrupts of the 8259 through the local APIC.
func enableExtINT(t *testing.T, c *kvm.VCPU) {
	t.Helper()
	l, err := c.LAPIC()
	must(t, err)
	copy(l.Registers[0x350:], []byte{0, 7, 0, 0}) // LVT0: ExtINT
	must(t, c.SetLAPIC(l))
}
