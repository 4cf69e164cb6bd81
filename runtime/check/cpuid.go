package check

import (
	"encoding/binary"
	"strings"
)

// cpuidFunc is the CPUID instruction: a leaf and subleaf in, registers out.
type cpuidFunc func(leaf, subleaf uint32) (eax, ebx, ecx, edx uint32)

// CPUID leaves and bits (Intel SDM volume 2A, CPUID; AMD APM volume 3, E.3-4).
const (
	leafVendor     = 0
	leafFeatures   = 1          // ecx
	leafHypervisor = 0x40000000 // by convention of the hypervisors
	leafExtMax     = 0x80000000
	leafExtFeature = 0x80000001 // ecx
	leafBrand      = 0x80000002 // and the next two

	bitVMX        = 1 << 5  // leafFeatures
	bitHypervisor = 1 << 31 // leafFeatures
	bitSVM        = 1 << 2  // leafExtFeature
)

// readCPU asks the CPU for its name and for virtualisation.
func readCPU(cpuid cpuidFunc) CPU {
	_, b, c, d := cpuid(leafVendor, 0)
	cpu := CPU{Vendor: registers(b, d, c)}
	_, _, c, _ = cpuid(leafFeatures, 0)
	cpu.VMX = c&bitVMX != 0
	top, _, _, _ := cpuid(leafExtMax, 0)
	if top >= leafExtFeature {
		_, _, c, _ = cpuid(leafExtFeature, 0)
		cpu.SVM = c&bitSVM != 0
	}
	if top >= leafBrand+2 {
		var brand strings.Builder
		for i := range uint32(3) {
			brand.WriteString(quad(cpuid(leafBrand+i, 0)))
		}
		cpu.Model = strings.TrimSpace(strings.TrimRight(brand.String(), "\x00"))
	}
	return cpu
}

// signatures of hypervisors at leafHypervisor, in ebx, ecx, edx.
var signatures = map[string]string{
	"KVMKVMKVM":    "KVM",
	"XenVMMXenVMM": "Xen",
	"VMwareVMware": "VMware",
	"Microsoft Hv": "Hyper-V",
	"TCGTCGTCGTCG": "QEMU TCG",
	"bhyve bhyve ": "bhyve",
	"ACRNACRNACRN": "ACRN",
	"VBoxVBoxVBox": "VirtualBox",
	"prl hyperv  ": "Parallels",
	"lrpepyh  vr":  "Parallels",
}

// readHypervisor names what this machine runs on.
func readHypervisor(cpuid cpuidFunc) string {
	if _, _, c, _ := cpuid(leafFeatures, 0); c&bitHypervisor == 0 {
		return "none"
	}
	_, b, c, d := cpuid(leafHypervisor, 0)
	sig := registers(b, c, d)
	if name, ok := signatures[sig]; ok {
		return name
	}
	if sig == "" {
		return "unknown"
	}
	return "unknown (" + sig + ")"
}

// registers reads text of a signature, without the padding.
func registers(a, b, c uint32) string {
	return strings.TrimRight(raw(a, b, c), "\x00")
}

func raw(regs ...uint32) string {
	var p []byte
	for _, r := range regs {
		p = binary.LittleEndian.AppendUint32(p, r)
	}
	return string(p)
}

func quad(a, b, c, d uint32) string { return raw(a, b, c, d) }
