package sandbox

import (
	"github.com/sirupsen/logrus"

	"github.com/microvm/microvm/vmm/control"
)

// Config describes a machine.
type Config struct {
	// ID names the machine in logs.
	ID string
	// Hostname of the guest; empty leaves it alone.
	Hostname string
	// Sysctls are settings of the guest's own IPC namespace.
	Sysctls map[string]string
	// Machine is control.MachineKVM or control.MachineSoftware.
	Machine string
	// CPUs are those at the start, MaxCPUs those that Grow may come to; 0 is no
	// more.
	CPUs, MaxCPUs int
	// Memory is the guest's at the start, MaxMemory what Grow may come to, 0 for
	// no more. Both are in bytes, and are rounded up to full MiB.
	Memory, MaxMemory uint64
	// Unmitigated has a guest on KVM run without mitigations of its processor's faults.
	Unmitigated bool
	// Debug makes guest kernel and VM process verbose.
	Debug bool
	// Kernel, Initramfs, VMM and QEMU are paths of files; QEMU is for the
	// software machine only.
	Kernel, Initramfs, VMM, QEMU string
	// Exports are what the guest sees of the host.
	Exports []Export
	// NICs are the guest's network devices, which AttachNIC joins to the host.
	NICs []NIC
	// Disks are the guest's.
	Disks []Disk
	// MoreDisks makes room for AddDisk, unless the network devices take it.
	MoreDisks bool
	// Ingress and Egress limit what each of them moves to and from the guest.
	Ingress, Egress control.Rate
	// OwnMACs has the guest send from no other MAC than its interfaces have.
	OwnMACs bool
	// Stand says that the process stands in the caller's network namespace, for
	// whoever looks for the container's there. Otherwise it has an empty one.
	Stand bool
	// Socket is the path of the unix socket to make for Dial. It is removed
	// with the state directory.
	Socket string
	// Log takes the VM process's log.
	Log *logrus.Entry
	// Timeline takes the stages of the start.
	Timeline *Timeline
}

// Export is a directory or file at Path that the guest sees as Name.
type Export struct {
	Name     string
	Path     string
	ReadOnly bool
	// WritableMounts says that ReadOnly is not for the host's mounts below Path,
	// if the host's kernel can see to that.
	WritableMounts bool
	// Submounts says that the host's mounts below Path are seen, too.
	Submounts bool
	// Follow says that so are those which the host makes or ends later, as in a
	// slave of the host's mount.
	Follow bool
	// OneDevice shows those mounts as part of the export, not as devices of
	// their own.
	OneDevice bool
	// Cache is as in control.Export.
	Cache string
}

// Disk is a block device of the guest, which knows it by Serial.
type Disk struct {
	Serial string
	// Path is a regular file or a block device, of which nobody else may make
	// use meanwhile, unless all do read-only.
	Path     string
	ReadOnly bool
}

// NIC is a network device of the guest.
type NIC struct {
	// Tap says that AttachNIC is given taps with virtio-net headers, not
	// datagram sockets.
	Tap bool
}
