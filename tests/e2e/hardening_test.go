package e2e

import (
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// TestGuestsKernelIsHardened looks from inside at what the guest's kernel keeps away
// even from its root.
func TestGuestsKernelIsHardened(t *testing.T) {
	s := newSite(t)
	script := `cat /proc/cmdline
		[ ! -e /proc/modules ] && echo no modules
		[ ! -e /sys/kernel/kexec_loaded ] && echo no kexec
		[ ! -e /sys/class/mem/mem ] && echo no memory
		[ ! -e /proc/kcore ] && echo no core
		mknod /dev/mem c 1 1 && ! head -c 1 /dev/mem 2>/dev/null && echo no device
		grep -H . /sys/devices/system/cpu/vulnerabilities/*`
	o := s.output(s.bundle(sh(script), privileged))
	for _, want := range []string{"no modules", "no kexec", "no memory", "no core", "no device", "vulnerabilities/spectre_v2:", "vulnerabilities/meltdown:"} {
		if !strings.Contains(o, want) {
			t.Errorf("without %q:\n%s", want, o)
		}
	}
	if want := machine == "software"; strings.Contains(o, "mitigations=off") != want {
		t.Errorf("mitigations off on the command line, want %v:\n%s", want, o)
	}
	if strings.Contains(o, "spectre_v2:Vulnerable") && machine == "kvm" {
		t.Errorf("no mitigations:\n%s", o)
	}
}

// privileged lets a container reach all that its kernel has.
func privileged(spec *specs.Spec) {
	spec.Linux.MaskedPaths, spec.Linux.ReadonlyPaths, spec.Linux.Resources = nil, nil, nil
	c := spec.Process.Capabilities
	for _, set := range []*[]string{&c.Bounding, &c.Effective, &c.Permitted} {
		*set = append(*set, "CAP_MKNOD", "CAP_SYS_RAWIO", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_MODULE")
	}
}

// TestMitigationsAreTheOperatorsToSwitchOff has them switched off by the configuration,
// and not by a container's annotation.
func TestMitigationsAreTheOperatorsToSwitchOff(t *testing.T) {
	s := newSite(t)
	off := annotated("io.microvm.mitigations", "off")
	o := s.runBundle(s.bundle(sh("true"), off))
	if o.Code == 0 || !strings.Contains(o.Stderr, "io.microvm.mitigations") {
		t.Errorf("switched off by an annotation: %v", o)
	}
	file := configured(t, "mitigations = \"off\"\n")
	for policy, want := range map[string]bool{"off": true, "on": machine == "software"} {
		b := s.bundle(sh("cat /proc/cmdline"), annotated("io.microvm.mitigations", policy))
		if o := s.command("--config", file, "run", "--bundle", b.dir, s.name()).Run(); o.Code != 0 || strings.Contains(o.Stdout, "mitigations=off") != want {
			t.Errorf("%s: %v, want them off: %v", policy, o, want)
		}
	}
}

// TestPanicIsExplained has the guest's kernel panic, and looks at what the user is
// told: also the first line, which is far from the end of the trace.
func TestPanicIsExplained(t *testing.T) {
	s := newSite(t)
	o := s.runBundle(s.bundle(sh("echo c >/proc/sysrq-trigger"), privileged))
	for _, want := range []string{"the guest's kernel panicked", "Kernel panic - not syncing: sysrq triggered crash", "Call Trace"} {
		if o.Code == 0 || !strings.Contains(o.Stderr, want) {
			t.Errorf("without %q: %v", want, o)
		}
	}
}
