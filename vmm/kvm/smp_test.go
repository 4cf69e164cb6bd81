package kvm_test

import (
	"runtime"
	"testing"

	"github.com/microvm/microvm/vmm/kvm"
)

// The second processor waits until the first sends INIT and SIPI, then starts
// at the page that the SIPI names. The local APIC is at 0xfee00000, out of
// reach of real mode, so the first processor is put into flat 32-bit mode.
func TestSecondProcessorWaitsForSIPI(t *testing.T) {
	g := newGuest(t, []byte{
		0xbb, 0x00, 0x03, 0xe0, 0xfe, // mov ebx, 0xfee00300 (ICR low)
		0xc7, 0x43, 0x10, 0, 0, 0, 1, // mov dword [ebx+0x10], 1<<24: to APIC 1
		0xc7, 0x03, 0x00, 0x45, 0, 0, // mov dword [ebx], INIT
		0xc7, 0x43, 0x10, 0, 0, 0, 1, // ICR high again
		0xc7, 0x03, 0x02, 0x46, 0, 0, // mov dword [ebx], SIPI at page 2
		0xf4, // hlt
	}, options{chips: true})
	g.flat(t)
	must(t, g.mem.WriteAt([]byte{0xb0, 0x22, 0xe6, 0x10, 0xf4}, 0x2000)) // out 0x10, 0x22; hlt

	second, err := g.vm.CreateVCPU(1)
	must(t, err)
	defer second.Close()
	// The kernel's map of APIC ids is older than the processor until its local
	// APIC is written to.
	enableExtINT(t, second)
	if m, err := second.MPState(); err != nil || m != kvm.MPUninitialized {
		t.Fatalf("state of the second processor is %v, %v; want uninitialized", m, err)
	}
	got := make(chan kvm.Exit, 1)
	go func() {
		runtime.LockOSThread()
		e, err := second.Run()
		if err != nil {
			t.Error(err)
		}
		got <- e
	}()
	firstEnded := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer close(firstEnded)
		if e, err := g.cpu.Run(); err != nil || e != kvm.ExitKicked {
			t.Errorf("first processor: %v %v", e, err)
		}
	}()
	if e := <-got; e != kvm.ExitIO {
		t.Errorf("second processor: %v, want %v", e, kvm.ExitIO)
	}
	if io, err := second.IO(); err != nil || io.Data[0] != 0x22 {
		t.Errorf("second processor: %+v, %v", io, err)
	}
	g.cpu.Kick()
	<-firstEnded
}

func TestKickWakesAProcessorThatWaitsForSIPI(t *testing.T) {
	g := newGuest(t, []byte{0xf4}, options{chips: true})
	second, err := g.vm.CreateVCPU(1)
	must(t, err)
	defer second.Close()
	ended := make(chan kvm.Exit, 1)
	started := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		close(started)
		e, err := second.Run()
		if err != nil {
			t.Error(err)
		}
		ended <- e
	}()
	<-started
	second.Kick()
	if e := <-ended; e != kvm.ExitKicked {
		t.Errorf("%v, want %v", e, kvm.ExitKicked)
	}
}

func TestCPUIDAndMSR(t *testing.T) {
	g := newGuest(t, []byte{
		0x66, 0xb8, 0x00, 0x00, 0x00, 0x40, // mov eax, 0x40000000
		0x0f, 0xa2, // cpuid
		0x66, 0x89, 0xd8, // mov eax, ebx
		0x66, 0xe7, 0x10, // out 0x10, eax
		0xf4,
	}, options{})
	must(t, g.cpu.SetCPUID([]kvm.CPUIDEntry{{Function: 0x4000_0000, EBX: 0x1234_5678}}))
	g.run(t, kvm.ExitIO)
	if io, err := g.cpu.IO(); err != nil || io.Data[0] != 0x78 || io.Data[3] != 0x12 {
		t.Errorf("cpuid gave %x, %v", io.Data, err)
	}
	const sysenterCS = 0x174
	must(t, g.cpu.SetMSRs([]kvm.MSR{{Index: sysenterCS, Value: 0x10}}))
	if v, err := g.cpu.GetMSR(sysenterCS); err != nil || v != 0x10 {
		t.Errorf("got %#x, %v", v, err)
	}
	if err := g.cpu.SetMSRs([]kvm.MSR{{Index: 0xdead_beef}}); err == nil {
		t.Error("a register that does not exist was set")
	}
	if err := g.cpu.SetCPUID(make([]kvm.CPUIDEntry, 1000)); err == nil {
		t.Error("a thousand entries were accepted")
	}
}
