package check

import (
	"errors"
	"fmt"

	"github.com/microvm/microvm/runtime/config"
)

// kvmAPI is KVM_API_VERSION of linux/kvm.h.
const kvmAPI = 12

// MachineNone says that nothing can run here.
const MachineNone = "none"

// Decision is which machine is used, and why.
type Decision struct {
	// Machine is config.MachineKVM, config.MachineSoftware or MachineNone.
	Machine string `json:"machine"`
	Reason  string `json:"reason"`
	// Advice is what would make it better, a sentence each.
	Advice []string `json:"advice,omitempty"`
}

// Err is nil when there is a machine.
func (d Decision) Err() error {
	if d.Machine != MachineNone {
		return nil
	}
	return fmt.Errorf("choose machine: %s", d.Reason)
}

// Decide chooses the machine: the one that was asked for, or with
// config.MachineAuto (or "") KVM where it works and else the software machine.
func Decide(f *Facts, asked string) Decision {
	obstacle := kvmObstacle(f)
	d := Decision{Advice: advise(f, obstacle)}
	switch {
	case asked == config.MachineSoftware:
		d.software(f, "it was asked for")
	case obstacle == nil:
		d.kvm(f, asked)
	case asked == config.MachineKVM:
		d.Machine, d.Reason = MachineNone, "kvm was asked for, but "+obstacle.Error()
	default:
		d.software(f, obstacle.Error())
	}
	return d
}

func (d *Decision) kvm(f *Facts, asked string) {
	d.Machine, d.Reason = config.MachineKVM, "/dev/kvm works and the CPU has "+extension(f.CPU)
	if asked == config.MachineKVM {
		d.Reason = "it was asked for, " + d.Reason
	}
	if f.Nested() {
		d.Reason += ", nested in " + f.Hypervisor
	}
}

func (d *Decision) software(f *Facts, why string) {
	if f.Parts.QEMU == "" {
		d.Machine, d.Reason = MachineNone, why+", and the software machine needs qemu-system-x86_64, which was not found"
		d.Advice = append(d.Advice, `install QEMU for the software machine: apt-get install qemu-system-x86`)
		return
	}
	d.Machine, d.Reason = config.MachineSoftware, why
	d.Advice = append(d.Advice, "the software machine is slow, and QEMU does not call its emulation a security boundary: use it for development and tests")
}

func extension(c CPU) string {
	if c.SVM {
		return "svm"
	}
	return "vmx"
}

// Obstacles to KVM; kvmObstacle adds the detail.
var (
	errNoExtension = errors.New("the CPU has neither vmx nor svm")
	errNoDevice    = errors.New("there is no /dev/kvm")
	errDenied      = errors.New("no rights on /dev/kvm")
	errDevice      = errors.New("/dev/kvm does not work")
)

// kvmObstacle is why KVM cannot be used, or nil. The CPU comes first: a
// /dev/kvm without vmx or svm is a paravirtual one, on which unmodified
// kernels die.
func kvmObstacle(f *Facts) error {
	switch k := f.KVM; {
	case !f.CPU.VMX && !f.CPU.SVM && k.Exists:
		return fmt.Errorf("%w, so that its /dev/kvm cannot run an unmodified kernel", errNoExtension)
	case !f.CPU.VMX && !f.CPU.SVM:
		return errNoExtension
	case !k.Exists:
		return errNoDevice
	case k.Denied:
		return fmt.Errorf("%w: %s", errDenied, k.Error)
	case !k.Usable:
		return fmt.Errorf("%w: %s", errDevice, k.Error)
	case k.API != kvmAPI:
		return fmt.Errorf("%w: its API version is %d, not %d", errDevice, k.API, kvmAPI)
	}
	return nil
}
