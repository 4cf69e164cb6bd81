package lab

import (
	"fmt"
	"os"
	"regexp"
)

var virtualisationFlag = regexp.MustCompile(`(?m)^flags\s*:.*\b(vmx|svm)\b`)

// CheckHardware returns nil where KVM can run unmodified kernels without the
// lab's virtual machine, and else the reason why it can't. A /dev/kvm alone
// proves nothing: it may belong to a hypervisor for modified guests.
func CheckHardware() error {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return err
	}
	if !virtualisationFlag.Match(info) {
		return fmt.Errorf("check KVM: the CPU offers neither vmx nor svm")
	}
	device, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("check KVM: %w", err)
	}
	return device.Close()
}
