package sandbox

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/status"

	"github.com/microvm/microvm/agent/api"
	"github.com/microvm/microvm/vmm/control"
)

const (
	// bootDeadline is far beyond the slowest start seen: an emulated guest
	// on a host with ten times more to do than it has CPUs.
	bootDeadline = 3 * time.Minute
	// causeGrace is how long the cause of a broken connection may take to
	// show: the agent's death comes before the panic that it makes.
	causeGrace = 5 * time.Second
	// consoleGrace bounds asking a machine that does not answer.
	consoleGrace = 2 * time.Second

	entropyBytes = 256
)

// Boot waits for the agent's first answer. On failure the machine is over, and
// the error says why, or how far it came.
func (vm *VM) Boot(caller context.Context) error {
	ctx, cancel := context.WithTimeout(caller, bootDeadline)
	defer cancel()
	client := api.NewClient(vm.ready, nil)
	vm.mu.Lock()
	vm.agent = client
	vm.mu.Unlock()
	stop := vm.cancelAtEnd(cancel)
	defer stop()
	resp, err := vm.greet(ctx, client)
	if caller.Err() != nil {
		vm.Kill()
		return fmt.Errorf("boot guest: %w", context.Cause(caller))
	}
	if err != nil {
		return fmt.Errorf("boot guest: %w", vm.bootFailure(ctx, err))
	}
	vm.markGuest(resp)
	return nil
}

// greet waits for the guest's first sign of life. A guest of KVM has the host's
// clock from its first instruction. Any other is told once it answers, not in
// the greeting: that waits for the guest to boot, and its time would be old.
func (vm *VM) greet(ctx context.Context, client *api.Client) (*api.HelloResponse, error) {
	entropy := make([]byte, entropyBytes)
	// crypto/rand never fails.
	_, _ = rand.Read(entropy)
	resp, err := client.Hello(ctx, vm.config.Hostname, entropy, vm.config.Sysctls)
	if err == nil && vm.config.Machine != control.MachineKVM {
		err = client.SetClock(ctx)
	}
	return resp, err
}

// cancelAtEnd calls cancel when the machine ends; stop releases it.
func (vm *VM) cancelAtEnd(cancel func()) (stop func()) {
	stopped := make(chan struct{})
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		select {
		case <-vm.done:
			cancel()
		case <-stopped:
		}
	}()
	return func() { close(stopped); <-finished }
}

// Bounds of what a guest may tell of its start.
const (
	mostStages    = 32
	mostStageName = 64 // bytes
)

// markGuest places the guest's stages on the host's clock.
func (vm *VM) markGuest(r *api.HelloResponse) {
	now := Now()
	for _, s := range r.GetStages()[:min(len(r.GetStages()), mostStages)] {
		name := "agent:" + api.Printable(s.GetName(), mostStageName)
		if s.GetName() == api.StageInit {
			name = StageKernel
		}
		vm.config.Timeline.MarkAt(name, now-r.GetBoottimeNanos()+s.GetBoottimeNanos())
	}
	vm.config.Timeline.MarkAt(StageAgent, now)
}

// bootFailure ends the machine and finds out why err happened to Hello.
func (vm *VM) bootFailure(ctx context.Context, err error) error {
	if s, ok := status.FromError(err); ok && ctx.Err() == nil {
		err = errors.New(s.Message())
	}
	late := errors.Is(ctx.Err(), context.DeadlineExceeded)
	if !late {
		select {
		case <-vm.done:
			return vm.end
		case <-time.After(causeGrace):
		}
	}
	last := vm.config.Timeline.Last()
	cctx, cancel := context.WithTimeout(context.Background(), consoleGrace)
	defer cancel()
	console, _ := vm.Console(cctx) // best effort, the machine may be dead
	vm.Kill()
	if late {
		err = fmt.Errorf("the agent did not answer within %v", bootDeadline)
	}
	return End{Reason: control.ReasonStopped, Err: fmt.Errorf("%w (last stage reached: %q)", err, last), Console: console}
}

// Agent is the agent's client, after Boot. It is vm's.
func (vm *VM) Agent() *api.Client {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	return vm.agent
}

func (vm *VM) closeAgent() {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	if vm.agent != nil {
		vm.agent.Close()
	} else {
		vm.ready.Close()
	}
}

// Socket is the path for [Dial] and [OpenStream].
func (vm *VM) Socket() string { return vm.config.Socket }
