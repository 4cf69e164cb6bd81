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

// nics describes the network devices to the VM process.
func (c *Config) nics() (described []control.NIC) {
	for i, n := range c.NICs {
		described = append(described, control.NIC{
			MAC: api.NICAddress(i).String(), Tap: n.Tap, Receive: c.Ingress, Send: c.Egress,
		})
	}
	return described
}

// AttachNIC joins the guest's network device i to f, in place of anything that
// it was joined to before. With froms the guest may send from these MACs only. f
// stays the caller's, who may close it.
func (vm *VM) AttachNIC(ctx context.Context, i int, f *os.File, froms ...string) error {
	_, err := vm.request(ctx, control.Request{Op: control.OpAttachNIC, NIC: i, Froms: froms}, f)
	return err
}

// DetachNIC parts network device i from what it is joined to, which is closed.
func (vm *VM) DetachNIC(ctx context.Context, i int) error {
	_, err := vm.request(ctx, control.Request{Op: control.OpDetachNIC, NIC: i})
	return err
}
