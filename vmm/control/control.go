// Package control is what a VM process and its owner say to each other: the
// configuration at the start, and messages over a SOCK_SEQPACKET socketpair
// while the VM lives.
//
// The owner's end of the socketpair is the VM's life line: when it is closed,
// however that happened, the VM ends.
package control

import (
	"encoding/json"
	"fmt"
	"io"
)

// Machine kinds.
const (
	MachineKVM      = "kvm"
	MachineSoftware = "software"
)

// Slots are how many devices a machine has room for besides the four that each has.
// Every network device takes one, and all disks together. QEMU's machine type
// microvm has eight, and ours one for each line of its interrupt controller from
// x86.FirstVirtioIRQ on.
const (
	SlotsSoftware = 4
	SlotsKVM      = 15
)

// Config is everything a VM process is told and handed. Fields that hold a
// descriptor name it by its number in the VM process; 0 means none.
type Config struct {
	// ID names the VM in logs.
	ID string `json:"id"`
	// Machine is MachineKVM or MachineSoftware.
	Machine string `json:"machine"`
	// CPUs is the number of vCPUs at the start, at least 1; MaxCPUs the number
	// that the guest may start later, 0 for no more.
	CPUs    int `json:"cpus"`
	MaxCPUs int `json:"maxCPUs,omitempty"`
	// Memory is the guest's memory at the start in bytes, a multiple of 1 MiB;
	// MaxMemory what it may take into use later, 0 for no more.
	Memory    uint64 `json:"memory"`
	MaxMemory uint64 `json:"maxMemory,omitempty"`
	// Kernel and Initramfs are readable descriptors of regular files.
	Kernel    int `json:"kernel"`
	Initramfs int `json:"initramfs"`
	// Cmdline is appended to the kernel command line.
	Cmdline string `json:"cmdline,omitempty"`
	// Debug makes the guest kernel verbose.
	Debug bool `json:"debug,omitempty"`
	// KVM is /dev/kvm opened read-write (MachineKVM).
	KVM int `json:"kvm,omitempty"`
	// QEMU is the path of qemu-system-x86_64 (MachineSoftware).
	QEMU string `json:"qemu,omitempty"`
	// Control is the VM's end of the control socketpair.
	Control int `json:"control"`
	// Log is where the VM process writes its log as JSON lines; 0 is stderr.
	Log int `json:"log,omitempty"`
	// Vsock configures the host's side of the guest's virtio-vsock.
	Vsock Vsock `json:"vsock"`
	// Exports are shared with the guest from the start.
	Exports []Export `json:"exports,omitempty"`
	// NICs are the guest's network devices. They move no frames until one is
	// attached to something (OpAttachNIC).
	NICs []NIC `json:"nics,omitempty"`
	// Disks are those that the guest has from the start.
	Disks []Disk `json:"disks,omitempty"`
	// MoreDisks makes room for disks to add while the guest runs.
	MoreDisks bool `json:"moreDisks,omitempty"`
}

// Disk is a disk of the guest.
type Disk struct {
	// Name is for OpRemoveDisk.
	Name string `json:"name"`
	// Label is what the guest can read about it, 512 bytes at most.
	Label []byte `json:"label"`
	// FD is a regular file or a block device, open for reading and, unless
	// ReadOnly, for writing.
	FD       int  `json:"fd"`
	ReadOnly bool `json:"readOnly,omitempty"`
}

// NIC is a network device.
type NIC struct {
	// MAC is the address that the guest knows the device by at first, such as
	// "02:00:00:00:00:01".
	MAC string `json:"mac"`
	// Tap says that what is attached to it are taps that carry virtio-net
	// headers; otherwise they are datagram sockets of bare frames.
	Tap bool `json:"tap,omitempty"`
	// Pairs is how many pairs of queues it has: one if 0, without Tap or with a
	// rate, and at most MaxPairs. Taps have as many queues, each a descriptor.
	Pairs int `json:"pairs,omitempty"`
	// Receive and Send limit what the guest gets and sends.
	Receive Rate `json:"receive,omitzero"`
	Send    Rate `json:"send,omitzero"`
}

// Rate is how much may be moved a second; 0 is as much as there is.
type Rate struct {
	Bits   uint64 `json:"bits,omitempty"`
	Frames uint64 `json:"frames,omitempty"`
}

// Vsock says which streams may cross the VM's boundary.
type Vsock struct {
	// GuestCID is the guest's context id, 3 or more.
	GuestCID uint64 `json:"guestCID"`
	// Listener is a listening unix stream socket: a client that writes
	// "CONNECT <port>\n" is connected to that port of the guest.
	Listener int `json:"listener"`
	// Outbound maps a host port that the guest may connect to, once, to a
	// connected stream socket.
	Outbound map[uint32]int `json:"outbound,omitempty"`
}

// Export is a directory or a single file of the host that the guest sees as
// Name in the root of its share.
type Export struct {
	// Name is a single path component.
	Name string `json:"name"`
	// FD is an O_PATH or readable descriptor of the directory or file.
	FD int `json:"fd"`
	// ReadOnly refuses every change, on the host's side.
	ReadOnly bool `json:"readOnly,omitempty"`
	// OneDevice shows the export and the mounts in it as part of the share, not
	// as devices of their own.
	OneDevice bool `json:"oneDevice,omitempty"`
	// Cache is how long the guest may believe what it has seen: auto, the default,
	// never or always.
	Cache string `json:"cache,omitempty"`
}

// Descriptors are those that c names.
func (c *Config) Descriptors() []int {
	fds := []int{c.Kernel, c.Initramfs, c.KVM, c.Control, c.Log, c.Vsock.Listener}
	for _, fd := range c.Vsock.Outbound {
		fds = append(fds, fd)
	}
	for _, e := range c.Exports {
		fds = append(fds, e.FD)
	}
	for _, d := range c.Disks {
		fds = append(fds, d.FD)
	}
	return fds
}

// ReadConfig reads the configuration from r to its end.
func ReadConfig(r io.Reader) (*Config, error) {
	dec := json.NewDecoder(io.LimitReader(r, 1<<20))
	dec.DisallowUnknownFields()
	var c Config
	if err := dec.Decode(&c); err != nil {
		return nil, fmt.Errorf("read VM configuration: %w", err)
	}
	return &c, nil
}

// Operations that an owner may request.
const (
	OpAddExport    = "add-export"    // Export names it, one descriptor comes along
	OpRemoveExport = "remove-export" // Export.Name
	OpAddDisk      = "add-disk"      // Disk names it, one descriptor comes along
	OpRemoveDisk   = "remove-disk"   // Disk.Name
	OpAttachNIC    = "attach-nic"    // NIC is its index, one descriptor comes along
	OpDetachNIC    = "detach-nic"    // NIC is its index
	OpConsole      = "console"       // answered with the console's last lines
	OpStop         = "stop"          // ends the VM at once
)

// Request is a message from the owner. Each is answered by an Event of type
// EventReply with the same Seq.
type Request struct {
	Seq    uint64  `json:"seq"`
	Op     string  `json:"op"`
	Export *Export `json:"export,omitempty"`
	Disk   *Disk   `json:"disk,omitempty"`
	NIC    int     `json:"nic,omitempty"`
	// Froms are the MACs that the guest may send from over what it is attached
	// to; from any without one.
	Froms []string `json:"froms,omitempty"`
}

// Event types.
const (
	EventReply = "reply" // the answer to a Request
	EventStage = "stage" // start-up has reached a Stage
	EventExit  = "exit"  // the VM has ended; the last message
)

// Stages of a start, in order. The guest's own follow in the agent's Hello.
const (
	StageProcess = "vmm"   // the VM process has read its configuration
	StageRun     = "vcpus" // the vCPUs run (or QEMU was started)
)

// Reasons for the end of a VM.
const (
	ReasonPowerOff    = "poweroff"     // the agent switched it off
	ReasonReset       = "reset"        // the guest rebooted
	ReasonPanic       = "panic"        // the guest's kernel panicked
	ReasonTripleFault = "triple-fault" // the guest's CPU gave up
	ReasonStopped     = "stopped"      // the owner asked, or went away
	ReasonError       = "error"        // the host's side failed; see Error
)

// Event is a message from the VM process.
type Event struct {
	Type string `json:"type"`
	// Seq and Error answer a Request; Error is empty on success. An exit
	// with ReasonError also has its cause in Error.
	Seq   uint64 `json:"seq,omitempty"`
	Error string `json:"error,omitempty"`
	// Stage was reached at Time, CLOCK_MONOTONIC of the host in nanoseconds.
	Stage string `json:"stage,omitempty"`
	Time  int64  `json:"time,omitempty"`
	// Reason is why the VM ended.
	Reason string `json:"reason,omitempty"`
	// Console holds the last lines of the guest's console.
	Console string `json:"console,omitempty"`
}
