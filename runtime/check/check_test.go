package check

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/microvm/microvm/runtime/config"
)

// host is one where KVM works, changed by the function.
func host(change func(*Facts)) *Facts {
	f := &Facts{
		CPU:        CPU{Vendor: "GenuineIntel", VMX: true},
		KVM:        KVM{Exists: true, Usable: true, API: 12},
		Hypervisor: "none",
		Host:       Host{Root: true},
		Parts:      Parts{Kernel: "/k", Initramfs: "/i", VMM: "/v", QEMU: "/q"},
	}
	if change != nil {
		change(f)
	}
	return f
}

func without(f *Facts) { f.CPU.VMX = false }

func TestDecide(t *testing.T) {
	for name, c := range map[string]struct {
		change                  func(*Facts)
		asked                   string
		machine, reason, advice string
	}{
		"bare metal":        {nil, "auto", "kvm", "has vmx", ""},
		"AMD":               {func(f *Facts) { f.CPU = CPU{SVM: true} }, "", "kvm", "has svm", ""},
		"nested":            {func(f *Facts) { f.Hypervisor = "VMware" }, "auto", "kvm", "nested in VMware", ""},
		"forced":            {nil, "kvm", "kvm", "asked for", ""},
		"forced software":   {nil, "software", "software", "asked for", "security boundary"},
		"paravirtual KVM":   {func(f *Facts) { without(f); f.Hypervisor = "KVM" }, "auto", "software", "neither vmx nor svm, so that its /dev/kvm cannot", "nested=1"},
		"forced on it":      {func(f *Facts) { without(f); f.Hypervisor = "KVM" }, "kvm", "none", "neither vmx nor svm", ""},
		"firmware off":      {func(f *Facts) { without(f); f.KVM = KVM{} }, "auto", "software", "neither vmx nor svm", "firmware"},
		"Xen":               {func(f *Facts) { without(f); f.KVM = KVM{}; f.Hypervisor = "Xen" }, "auto", "software", "neither", "nestedhvm"},
		"VMware":            {func(f *Facts) { without(f); f.KVM = KVM{}; f.Hypervisor = "VMware" }, "auto", "software", "neither", "vhv.enable"},
		"Hyper-V":           {func(f *Facts) { without(f); f.KVM = KVM{}; f.Hypervisor = "Hyper-V" }, "auto", "software", "neither", "ExposeVirtualizationExtensions"},
		"something else":    {func(f *Facts) { without(f); f.KVM = KVM{}; f.Hypervisor = "unknown (x)" }, "auto", "software", "neither", "hypervisor below"},
		"module not loaded": {func(f *Facts) { f.KVM = KVM{} }, "auto", "software", "no /dev/kvm", "modprobe kvm-intel"},
		"AMD not loaded":    {func(f *Facts) { f.KVM = KVM{}; f.CPU = CPU{SVM: true} }, "auto", "software", "no /dev/kvm", "modprobe kvm-amd"},
		"no rights":         {func(f *Facts) { f.KVM = KVM{Exists: true, Denied: true, Error: "open: denied"} }, "auto", "software", "no rights on /dev/kvm: open: denied", "usermod -aG kvm"},
		"no rights, forced": {func(f *Facts) { f.KVM = KVM{Exists: true, Denied: true} }, "kvm", "none", "no rights", "usermod"},
		"broken device":     {func(f *Facts) { f.KVM = KVM{Exists: true, Error: "no such device"} }, "auto", "software", "does not work: no such device", ""},
		"odd API":           {func(f *Facts) { f.KVM.API = 11 }, "auto", "software", "API version is 11", ""},
		"no QEMU":           {func(f *Facts) { f.KVM = KVM{}; f.Parts.QEMU = "" }, "auto", "none", "needs qemu-system", "apt-get install"},
		"slow VM creation":  {func(f *Facts) { f.KVM.NXHugePages = "Y" }, "auto", "kvm", "", "nx_huge_pages"},
		"no guest kernel":   {func(f *Facts) { f.Parts.Kernel = "" }, "auto", "kvm", "", "make build"},
		"user":              {func(f *Facts) { f.Host.Root = false }, "auto", "kvm", "", "root"},
	} {
		d := Decide(host(c.change), c.asked)
		if d.Machine != c.machine || !strings.Contains(d.Reason, c.reason) || !strings.Contains(strings.Join(d.Advice, "\n"), c.advice) {
			t.Errorf("%s: %+v", name, d)
		}
		if (d.Err() != nil) != (c.machine == "none") {
			t.Errorf("%s: %v", name, d.Err())
		}
	}
	if d := Decide(host(nil), "auto"); len(d.Advice) != 0 {
		t.Errorf("advice without a cause: %q", d.Advice)
	}
}

// text packs s into registers.
func text(s string) (r [4]uint32) {
	p := append([]byte(s), make([]byte, 16)...)
	for i := range r {
		r[i] = binary.LittleEndian.Uint32(p[4*i:])
	}
	return r
}

func fake(leaf1, ext uint32, hypervisor string) cpuidFunc {
	return func(leaf, _ uint32) (uint32, uint32, uint32, uint32) {
		switch leaf {
		case leafVendor:
			v := text("AuthenticAMD")
			return 1, v[0], v[2], v[1]
		case leafFeatures:
			return 0, 0, leaf1, 0
		case leafHypervisor:
			v := text(hypervisor)
			return leafHypervisor, v[0], v[1], v[2]
		case leafExtMax:
			return leafBrand + 2, 0, 0, 0
		case leafExtFeature:
			return 0, 0, ext, 0
		case leafBrand:
			v := text("AMD Test")
			return v[0], v[1], v[2], v[3]
		}
		return 0, 0, 0, 0
	}
}

func TestCPUID(t *testing.T) {
	if got, want := readCPU(fake(0, bitSVM, "")), (CPU{Vendor: "AuthenticAMD", Model: "AMD Test", SVM: true}); got != want {
		t.Errorf("%+v", got)
	}
	if got := readCPU(fake(bitVMX, 0, "")); !got.VMX || got.SVM {
		t.Errorf("%+v", got)
	}
	for sig, want := range map[string]string{
		"KVMKVMKVM\x00\x00\x00": "KVM", "XenVMMXenVMM": "Xen", "VMwareVMware": "VMware", "Microsoft Hv": "Hyper-V",
		"TCGTCGTCGTCG": "QEMU TCG", "Something": "unknown (Something)", "": "unknown",
	} {
		if got := readHypervisor(fake(bitHypervisor, 0, sig)); got != want {
			t.Errorf("%q: %s", sig, got)
		}
	}
	if got := readHypervisor(fake(0, 0, "KVMKVMKVM")); got != "none" {
		t.Error(got)
	}
}

func TestReportOfThisHost(t *testing.T) {
	f := Probe(config.Artifacts{Kernel: config.Artifact{Err: errors.New("no kernel: build one")}})
	r := NewReport(f, "auto")
	var out bytes.Buffer
	if err := r.WriteText(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{f.CPU.Vendor, "/dev/kvm", "missing: no kernel: build one", f.Host.Kernel, "cgroup " + f.Host.Cgroup} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	out.Reset()
	if err := r.WriteJSON(&out); err != nil {
		t.Fatal(err)
	}
	var back map[string]any
	if err := json.Unmarshal(out.Bytes(), &back); err != nil || back["machine"] != r.Machine || back["cpu"] == nil {
		t.Errorf("%v %s", err, out.String())
	}
}
