// Package sandbox starts a container's virtual machine, watches it, and speaks
// to it.
//
//	vm, err := Launch(config)      the VM process runs, the guest begins to boot
//	defer vm.Close()
//	err = vm.Boot(ctx)             the agent has answered
//	vm.Agent(), Dial(vm.Socket()) calls and streams
//	vm.Shutdown(ctx)               the guest writes back and powers off
//	<-vm.Done(); vm.End()          how it ended
//
// The VM process is tied to this one by the control socketpair (package
// vmm/control): when the owner is gone, however it ended, so is the machine.
// Other processes reach a running guest through [Dial] and the socket in the
// container's state directory.
package sandbox
