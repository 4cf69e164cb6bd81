// Package check finds out what this host offers for virtual machines and
// decides which kind to use.
//
// Facts are collected by [Probe] (or the fast part by [ProbeMachine]); the
// decision, [Decide], is a pure function of them.
package check

import "github.com/microvm/microvm/runtime/config"

// Facts is what a host offers.
type Facts struct {
	CPU CPU `json:"cpu"`
	KVM KVM `json:"kvm"`
	// Hypervisor below this host by CPUID, "none" on bare metal.
	Hypervisor string `json:"hypervisor"`
	Host       Host   `json:"host"`
	Parts      Parts  `json:"parts"`

	artifacts config.Artifacts
}

// CPU is what CPUID says.
type CPU struct {
	Vendor string `json:"vendor"`
	Model  string `json:"model"`
	// VMX and SVM are Intel's and AMD's virtualisation. Without either no
	// unmodified kernel runs on KVM, whatever /dev/kvm says.
	VMX bool `json:"vmx"`
	SVM bool `json:"svm"`
}

// KVM is what /dev/kvm says.
type KVM struct {
	Exists bool `json:"exists"`
	// Usable means that it can be opened for reading and writing; Error says
	// why not.
	Usable bool   `json:"usable"`
	Error  string `json:"error,omitempty"`
	// Denied means that rights are missing.
	Denied bool `json:"denied,omitempty"`
	// API is KVM_GET_API_VERSION, 12 everywhere.
	API int `json:"apiVersion,omitempty"`
	// NXHugePages is the module's parameter nx_huge_pages.
	NXHugePages string `json:"nxHugePages,omitempty"`
}

// Host is about the kernel and the user.
type Host struct {
	Kernel string `json:"kernel"`
	// Cgroup is "v1", "v2" or "hybrid".
	Cgroup string `json:"cgroup"`
	CPUs   int    `json:"cpus"`
	Root   bool   `json:"root"`
}

// Parts are the files that a VM is made of; empty means not found.
type Parts struct {
	Kernel      string `json:"kernel"`
	Initramfs   string `json:"initramfs"`
	VMM         string `json:"vmm"`
	QEMU        string `json:"qemu"`
	QEMUVersion string `json:"qemuVersion,omitempty"`
}

// Nested tells whether a VM here would run inside another one.
func (f *Facts) Nested() bool { return f.Hypervisor != "none" }
