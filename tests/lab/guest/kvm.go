package guest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// KVM requests of linux/kvm.h. All take the number 0 as their argument and
// return a number or descriptor.
const (
	kvmCreateVM      = 0xae01
	kvmCreateVCPU    = 0xae41
	kvmCreateIRQChip = 0xae60
)

// holdKVM keeps a virtual machine open that never runs, for as long as this
// process lives. The kernel rewrites its own scheduler when the first virtual
// machine comes or the last one goes (static keys: preempt_notifier_key of
// kernel/sched/core.c, apic_sw_disabled of arch/x86/kvm/lapic.c). With more
// than one processor, QEMU's emulation sometimes goes on to execute the
// breakpoint that marks such code while it is being rewritten, and all
// processors of the lab spin in its handler for ever.
func holdKVM() error {
	kvm, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("hold KVM: %w", err)
	}
	defer kvm.Close()
	vm, err := createVM(int(kvm.Fd()))
	if err != nil {
		return fmt.Errorf("hold KVM: create VM: %w", err)
	}
	for _, request := range []uint{kvmCreateIRQChip, kvmCreateVCPU} {
		if _, err := unix.IoctlRetInt(vm, request); err != nil {
			return fmt.Errorf("hold KVM: request %#x: %w", request, err)
		}
	}
	return nil
}

// createVM tries again when a signal, such as the Go scheduler's own, comes
// while the VM is being made.
func createVM(kvm int) (vm int, err error) {
	for {
		if vm, err = unix.IoctlRetInt(kvm, kvmCreateVM); !errors.Is(err, unix.EINTR) {
			return vm, err
		}
	}
}
