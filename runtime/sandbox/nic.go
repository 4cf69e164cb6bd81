package sandbox

import (
	"context"
	"os"

	"github.com/microvm/microvm/agent/api"
	"github.com/microvm/microvm/vmm/control"
)

// MaxNICs is how many network devices a machine of the given kind can have, if it
// has no disks.
func MaxNICs(machine string) int {
	if machine == control.MachineSoftware {
		return control.SlotsSoftware
	}
	return min(control.SlotsKVM, api.MaxNICs)
}

// TapQueues is how many queues the taps of a machine's network devices have: one for
// each processor that it starts with, unless something keeps them to a rate, which is
// that of one queue.
func (c *Config) TapQueues() int {
	if c.Ingress != (control.Rate{}) || c.Egress != (control.Rate{}) {
		return 1
	}
	return max(1, min(c.CPUs, control.MaxPairs))
}

// nics describes the network devices to the VM process.
func (c *Config) nics() (described []control.NIC) {
	for i, n := range c.NICs {
		described = append(described, control.NIC{
			MAC: api.NICAddress(i).String(), Tap: n.Tap, Pairs: c.TapQueues(), Receive: c.Ingress, Send: c.Egress,
		})
	}
	return described
}

// AttachNIC joins the guest's network device i to files, the queues of a tap or one
// socket, in place of anything that it was joined to before. With froms the guest
// may send from these MACs only. The files stay the caller's, who may close them.
func (vm *VM) AttachNIC(ctx context.Context, i int, files []*os.File, froms ...string) error {
	_, err := vm.request(ctx, control.Request{Op: control.OpAttachNIC, NIC: i, Froms: froms}, files...)
	return err
}

// DetachNIC parts network device i from what it is joined to, which is closed.
func (vm *VM) DetachNIC(ctx context.Context, i int) error {
	_, err := vm.request(ctx, control.Request{Op: control.OpDetachNIC, NIC: i})
	return err
}
