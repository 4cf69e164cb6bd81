package check

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
)

// Report is the host check as shown to the user.
type Report struct {
	Decision
	Nested bool `json:"nested"`
	*Facts
}

// NewReport decides and describes.
func NewReport(f *Facts, asked string) Report {
	return Report{Decision: Decide(f, asked), Nested: f.Nested(), Facts: f}
}

// WriteJSON writes the report as one JSON object.
func (r Report) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

// WriteText writes the report line by line.
func (r Report) WriteText(w io.Writer) error {
	var err error
	line := func(name, format string, args ...any) {
		if err == nil {
			_, err = fmt.Fprintf(w, "%-17s%s\n", name, fmt.Sprintf(format, args...))
		}
	}
	line("CPU", "%s %s, %d CPUs", r.CPU.Vendor, r.CPU.Model, r.Host.CPUs)
	line("virtualisation", "vmx: %s, svm: %s", yes(r.CPU.VMX), yes(r.CPU.SVM))
	line(Device, "%s", r.KVM)
	line("runs on", "%s", r.below())
	line("host kernel", "%s, cgroup %s", r.Host.Kernel, r.Host.Cgroup)
	line("guest kernel", "%s", part(r.artifacts.Kernel.Path, r.artifacts.Kernel.Err))
	line("guest agent", "%s", part(r.artifacts.Initramfs.Path, r.artifacts.Initramfs.Err))
	line("VM process", "%s", part(r.artifacts.VMM.Path, r.artifacts.VMM.Err))
	line("QEMU", "%s", r.qemu())
	line("machine", "%s: %s", r.Machine, r.Reason)
	for _, a := range r.Advice {
		line("advice", "%s", a)
	}
	return err
}

// String is the device's state in a few words.
func (k KVM) String() string {
	switch {
	case !k.Exists:
		return "missing"
	case k.Usable:
		return fmt.Sprintf("can be opened, API version %d", k.API)
	}
	return k.Error
}

func (r Report) below() string {
	if r.Nested {
		return r.Hypervisor + ": VMs here are nested ones"
	}
	return "bare metal, no hypervisor"
}

func (r Report) qemu() string {
	if r.Parts.QEMU == "" {
		return part("", r.artifacts.QEMU.Err)
	}
	return r.Parts.QEMU + ", version " + cmp.Or(r.Parts.QEMUVersion, "unknown")
}

func part(path string, err error) string {
	if err != nil {
		return "missing: " + err.Error()
	}
	return path
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
