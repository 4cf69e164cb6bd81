package check

import "errors"

// advise says what would make VMs here possible, faster or safer.
func advise(f *Facts, obstacle error) []string {
	var lines []string
	switch {
	case errors.Is(obstacle, errNoExtension):
		lines = append(lines, enableExtension(f.Hypervisor))
	case errors.Is(obstacle, errNoDevice):
		lines = append(lines, "load KVM: modprobe "+module(f.CPU)+"; if that fails, switch virtualisation on in the firmware")
	case errors.Is(obstacle, errDenied):
		lines = append(lines, "get access to /dev/kvm: usermod -aG kvm $USER, then log in again; or run as root")
	}
	if obstacle == nil && f.KVM.NXHugePages == "Y" {
		lines = append(lines, "starting a VM can stall by 100 ms and more on some kernels: boot with kvm.nx_huge_pages=never where guests are trusted not to exploit iTLB multihit")
	}
	if f.Parts.Kernel == "" || f.Parts.Initramfs == "" || f.Parts.VMM == "" {
		lines = append(lines, `a part is missing: run "make build", or name its path in the configuration`)
	}
	if !f.Host.Root {
		lines = append(lines, "containers need root: sharing a root file system keeps its owners")
	}
	return lines
}

func module(c CPU) string {
	if c.SVM {
		return "kvm-amd"
	}
	return "kvm-intel"
}

// enableExtension tells how to get vmx or svm into the CPU, by who makes it.
func enableExtension(hypervisor string) string {
	switch hypervisor {
	case "none":
		return "switch virtualisation (VT-x or SVM) on in the firmware"
	case "KVM":
		return "let the host below pass its CPU on: kvm_intel.nested=1 or kvm_amd.nested=1 there, and -cpu host for this VM; on a cloud, take a metal instance or one with nested virtualisation"
	case "VMware":
		return `switch "expose hardware assisted virtualization to the guest OS" on for this VM (vhv.enable = "TRUE")`
	case "Hyper-V":
		return "on the host below: Set-VMProcessor -ExposeVirtualizationExtensions $true; on Azure, take a size with nested virtualisation"
	case "Xen":
		return "Xen passes vmx or svm on only with nestedhvm=1; on AWS, take a metal instance"
	}
	return "let the hypervisor below pass vmx or svm on, or use a machine of your own"
}
