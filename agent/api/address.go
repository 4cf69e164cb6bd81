package api

import (
	"fmt"
	"net"
	"strings"
)

// Version is the protocol's version. Host and guest compare it in Hello and
// refuse each other when it differs.
const Version = "1"

// Addresses on vsock, the same on every machine.
const (
	// HostCID is the host's context id (virtio 1.2, 5.10.4).
	HostCID = 2
	// GuestCID is the only guest's context id.
	GuestCID = 3

	// PortAgent carries ttrpc. The agent dials it on the host once, when it
	// is ready, and serves that connection; it listens on it for more.
	PortAgent = 1024
	// PortStream takes standard streams, see [OpenStream].
	PortStream = 1025
	// PortDial takes connections to the containers' network, see [Dial] and
	// [ServeNames].
	PortDial = 1026
)

// Places inside the guest.
const (
	// ExportsTag is the virtio-fs tag of the share with all exports.
	ExportsTag = "exports"
	// ExportsDir is where the agent mounts it; a container's root path and
	// the sources of its bind mounts lie below.
	ExportsDir = "/run/microvm/exports"
	// DisksDir has no files: a source below it in a container's mounts stands
	// for the disk whose serial, see [DiskLabel], is its name.
	DisksDir = "/run/microvm/disks"
	// NetworkNamespace is where the agent pins the containers' network
	// namespace, if the machine has network devices.
	NetworkNamespace = "/run/microvm/network"
	// ResolvConf names the servers of the last [Network] that had any.
	ResolvConf = "/run/microvm/resolv.conf"
	// OptionUnlessNamed, of a mount of ResolvConf in a container, has the agent
	// leave that out if a file of the root file system there names a server.
	OptionUnlessNamed = "x-microvm.unless-named"
	// AgentPath is the agent's program, the only file of the initramfs.
	AgentPath = "/init"
)

// DeviceSerial is the serial of a disk that is the host's block device with these
// numbers. Where a container's configuration has them, it means that disk.
func DeviceSerial(major, minor int64) string { return fmt.Sprintf("b%d:%d", major, minor) }

// IsDeviceSerial tells whether a serial is of DeviceSerial.
func IsDeviceSerial(serial string) bool { return strings.Contains(serial, ":") }

// PauseArgument makes the agent's program one that does nothing, for containers
// without a program of their own.
const PauseArgument = "pause"

// ExitPort is the I/O port that powers the machine off when it is written to.
const ExitPort = 0x501

// Stages of the agent's start, as named in [HelloResponse].
const (
	StageInit   = "init"   // the agent's first own instruction
	StageMounts = "mounts" // the guest's file systems are mounted
	StageReady  = "ready"  // the services are about to be served
)

// MaxNICs bounds the network devices of a guest.
const MaxNICs = 16

// NICAddress is the MAC that network device i has when the guest boots; the
// agent finds the device by it. It is one of local use.
func NICAddress(i int) net.HardwareAddr {
	return net.HardwareAddr{0x02, 'm', 'v', 'm', 0, byte(i)}
}
