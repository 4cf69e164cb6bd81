package kvm_test

import (
	"os"
	"runtime"
	"testing"

	"github.com/microvm/microvm/vmm/guestmem"
	"github.com/microvm/microvm/vmm/kvm"
	"github.com/microvm/microvm/vmm/kvm/kvmtest"
)

const (
	codeAddr = 0x1000 // where the code of a guest is
	memSize  = 1 << 20
)

// guest is a VM of one real-mode processor at codeAddr.
type guest struct {
	vm  *kvm.VM
	cpu *kvm.VCPU
	mem *guestmem.Memory
}

type options struct {
	chips bool // interrupt chips in the kernel
}

// newGuest makes a guest that runs code. The test's goroutine stays locked to
// its thread, as Run demands.
func newGuest(t *testing.T, code []byte, o options) guest {
	t.Helper()
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
	system := kvmtest.Require(t)
	vm, err := system.CreateVM()
	must(t, err)
	t.Cleanup(func() { vm.Close() })
	mem, err := guestmem.Allocate("kvm-test", []guestmem.Range{{Base: 0, Size: memSize}})
	must(t, err)
	t.Cleanup(func() { mem.Close() })
	must(t, vm.SetMemory(0, 0, mem.Regions()[0].Data))
	must(t, vm.SetIdentityMapAddr(0xfffbc000))
	must(t, vm.SetTSSAddr(0xfffbd000))
	if o.chips {
		must(t, vm.CreateIRQChip())
		must(t, vm.CreatePIT2())
	}
	must(t, mem.WriteAt(code, codeAddr))
	cpu := newCPU(t, vm, 0)
	return guest{vm, cpu, mem}
}

// newCPU makes a processor that would start at codeAddr in real mode.
func newCPU(t *testing.T, vm *kvm.VM, id int) *kvm.VCPU {
	t.Helper()
	cpu, err := vm.CreateVCPU(id)
	must(t, err)
	t.Cleanup(func() { cpu.Close() })
	s, err := cpu.Sregs()
	must(t, err)
	s.CS.Base, s.CS.Selector = 0, 0
	must(t, cpu.SetSregs(s))
	must(t, cpu.SetRegs(kvm.Regs{RIP: codeAddr, RSP: 0x8000, RFLAGS: 2}))
	return cpu
}

// flat puts the processor into protected mode with flat 32-bit segments and no
// interrupt table.
func (g guest) flat(t *testing.T) {
	t.Helper()
	s, err := g.cpu.Sregs()
	must(t, err)
	flat := kvm.Segment{Limit: 0xffff_ffff, Present: 1, S: 1, DB: 1, G: 1}
	s.CS, s.DS = flat, flat
	s.CS.Type, s.CS.Selector, s.DS.Type, s.DS.Selector = 0xb, 8, 0x3, 16
	s.ES, s.SS = s.DS, s.DS
	s.IDT = kvm.DTable{}
	s.CR0 |= 1
	must(t, g.cpu.SetSregs(s))
}

// run runs to the next exit, which must be of the given kind.
func (g guest) run(t *testing.T, want kvm.Exit) {
	t.Helper()
	got, err := g.cpu.Run()
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Fatalf("%v, want %v: %v", got, want, g.cpu.Failure(got))
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestOpenRefusesWhatIsNoKVM(t *testing.T) {
	f, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	must(t, err)
	if _, err := kvm.Open(f); err == nil {
		t.Error("accepted /dev/null")
	}
}
