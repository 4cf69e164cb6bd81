// Package kvmtest is for tests that need a KVM.
package kvmtest

import (
	"os"
	"strings"
	"testing"

	"github.com/microvm/microvm/vmm/kvm"
)

// Environment names the variable that says what a missing KVM means: with the
// value "required" a test that needs it fails, otherwise it is skipped.
const Environment = "MICROVM_KVM"

// Require opens /dev/kvm for a test with small guests of its own.
func Require(t testing.TB) *kvm.System {
	t.Helper()
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err == nil {
		var s *kvm.System
		if s, err = kvm.Open(f); err == nil {
			t.Cleanup(func() { s.Close() })
			return s
		}
	}
	missing(t, err.Error())
	return nil
}

// RequireHardware opens /dev/kvm for a test that boots an unmodified kernel.
// Some hosts have a /dev/kvm without hardware behind it, on which such a kernel
// does not get far.
func RequireHardware(t testing.TB) *kvm.System {
	t.Helper()
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		name, flags, _ := strings.Cut(line, ":")
		if strings.TrimSpace(name) != "flags" {
			continue
		}
		for flag := range strings.FieldsSeq(flags) {
			if flag == "vmx" || flag == "svm" {
				return Require(t)
			}
		}
		break
	}
	missing(t, "the CPU offers neither vmx nor svm")
	return nil
}

func missing(t testing.TB, why string) {
	t.Helper()
	if os.Getenv(Environment) == "required" {
		t.Fatalf("%s=required, but: %s", Environment, why)
	}
	t.Skipf("needs KVM: %s", why)
}
