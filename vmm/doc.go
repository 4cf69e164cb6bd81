// Package vmm is the embedded virtual machine monitor: it assembles a guest
// from memory, processors and devices on KVM, runs it, and says how it ended.
//
// New does everything that can fail on the host's side, Run lets the guest
// run until it ends by itself or by Stop, Close gives everything back. A VM
// opens no path and makes no descriptor after New, but those that devices need
// for the guest's requests.
package vmm
