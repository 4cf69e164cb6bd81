package sandbox

import (
	"context"
	"fmt"
	"time"

	"github.com/microvm/microvm/agent/api"
	"github.com/microvm/microvm/vmm/control"
)

// shutdownGrace is how long the guest may take to write back and power off.
const shutdownGrace = 30 * time.Second

// Shutdown lets the guest write everything back and power off, and waits until
// the VM process is gone. A guest that does not do so in time is killed, which
// is an error, and so is any other end.
func (vm *VM) Shutdown(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, shutdownGrace)
	defer cancel()
	stop := vm.cancelAtEnd(cancel)
	defer stop()
	if agent := vm.Agent(); agent != nil {
		// The answer may be lost with the machine.
		_, _ = agent.Machine.Shutdown(ctx, &api.ShutdownRequest{})
	}
	select {
	case <-vm.done:
	case <-ctx.Done():
	}
	select {
	case <-vm.done:
	default:
		vm.Kill()
		return fmt.Errorf("shut guest down: it did not within %v", shutdownGrace)
	}
	if vm.end.Reason != control.ReasonPowerOff {
		return fmt.Errorf("shut guest down: %w", vm.end)
	}
	return nil
}

// Kill ends the machine at once and waits until its process is gone.
func (vm *VM) Kill() {
	// It fails when the process has ended already.
	_ = vm.cmd.Process.Kill()
	<-vm.done
}

// Close is Kill; it is for a defer.
func (vm *VM) Close() error {
	vm.Kill()
	return nil
}
