// Package config is what the machine's administrator and a container's
// annotations say about virtual machines, and where their parts are found.
//
// The file is TOML:
//
//	machine   = "auto"   # auto, kvm or software
//	memory    = 512      # MiB of a VM whose container says nothing
//	cpus      = 1        # vCPUs of a VM whose container says nothing
//	kernel    = ""       # an uncompressed vmlinux
//	initramfs = ""       # a cpio archive with the agent
//	guests    = []       # patterns of kernels and initramfs that annotations may name
//	vmm       = ""       # the microvm-vmm binary
//	qemu      = ""       # qemu-system-x86_64, for the software machine
//	network   = "auto"   # in the host's network namespace: auto, user or none
//	spoofing  = "allow"  # frames from other MACs than an interface's: allow or refuse
//	ingress   = ""       # bits a second to each interface of a guest, such as "10M"
//	egress    = ""       # and from each
//	ingress_frames = ""  # frames a second
//	egress_frames  = ""
//	mitigations = "on"   # of the processor's faults, in guests on KVM: on or off
//	debug     = false    # log as with --debug, and a verbose guest kernel
//
// What is empty is searched for, see [Config.Locate].
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// DefaultPath is read when it exists and no other file is asked for.
const DefaultPath = "/etc/microvm/config.toml"

// Machines that may be asked for. With MachineAuto the host check decides.
const (
	MachineAuto     = "auto"
	MachineKVM      = "kvm"
	MachineSoftware = "software"
)

// Networks of a container that is in the host's network namespace.
const (
	NetworkAuto = "auto" // as user, but a pod is refused
	NetworkUser = "user" // connections are made for it by a process of the host
	NetworkNone = "none" // a loopback interface only
)

// What happens to frames that a guest sends from other MACs than its interfaces
// have.
const (
	SpoofingAllow  = "allow"
	SpoofingRefuse = "refuse" // they are dropped
)

// Whether a guest's kernel works around the faults of processors, by which its
// processes could read what is not theirs.
const (
	MitigationsOn  = "on"
	MitigationsOff = "off"
)

// Sizes of a VM.
const (
	// DefaultMemory in MiB.
	DefaultMemory = 512
	// MinMemory in MiB is what kernel and agent need to start a container.
	MinMemory = 128
	// DefaultCPUs is one: more cost memory and start-up time in every VM, and
	// a container that wants them says so.
	DefaultCPUs = 1
	// MaxCPUs is what the guest kernel is built for.
	MaxCPUs = 64
)

// Config is the file's content; the zero value of a field means "not said".
type Config struct {
	Machine   string `toml:"machine"`
	Memory    uint64 `toml:"memory"` // MiB
	CPUs      int    `toml:"cpus"`
	Kernel    string `toml:"kernel"`
	Initramfs string `toml:"initramfs"`
	VMM       string `toml:"vmm"`
	QEMU      string `toml:"qemu"`
	Debug     bool   `toml:"debug"`
	// Network is that of containers in the host's network namespace, which a
	// machine cannot be in: NetworkAuto, which is the default, NetworkUser or
	// NetworkNone.
	Network string `toml:"network"`
	// Spoofing is SpoofingAllow or SpoofingRefuse. Once it is refused, an
	// annotation does not allow it.
	Spoofing string `toml:"spoofing"`
	// Mitigations is MitigationsOn, which is the default, or MitigationsOff. It is for
	// KVM: in software there is nothing that they do. Unless it is off, an annotation
	// does not switch it off.
	Mitigations string `toml:"mitigations"`
	// Ingress and Egress limit what goes to and from each interface of a guest,
	// in bits of Ethernet frames and in their number. An annotation only lowers
	// them.
	Ingress       Rate `toml:"ingress"`
	IngressFrames Rate `toml:"ingress_frames"`
	Egress        Rate `toml:"egress"`
	EgressFrames  Rate `toml:"egress_frames"`
	// Cache is how long the guest may believe what it has seen of the host's files,
	// see Caches.
	Cache string `toml:"cache"`
	// PodAnnotations are patterns as of path.Match for the annotations that count of
	// a pod which is a sandbox of the shim's. For others containerd has such a list.
	PodAnnotations []string `toml:"pod_annotations"`
	// Guests are patterns as of path.Match for the files that annotations may name as
	// kernel and initramfs. Without any they may name none: the guest sees all of such a
	// file, and whoever writes an annotation may not read the host's files.
	Guests []string `toml:"guests"`
	// Publish are ports, from an annotation only, see Publications.
	Publish string `toml:"-"`
}

// Load reads the file at path. With path empty it reads DefaultPath, whose
// absence is no error.
func Load(path string) (Config, error) {
	file := path
	if file == "" {
		file = DefaultPath
	}
	data, err := os.ReadFile(file)
	if path == "" && errors.Is(err, fs.ErrNotExist) {
		return Config{}, nil
	}
	if err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	c, err := parse(data)
	if err != nil {
		return Config{}, fmt.Errorf("read configuration %s: %w", file, err)
	}
	return c, nil
}

func parse(data []byte) (Config, error) {
	var c Config
	dec := toml.NewDecoder(strings.NewReader(string(data)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		return Config{}, explain(err)
	}
	return c, c.Validate()
}

func explain(err error) error {
	var unknown *toml.StrictMissingError
	if errors.As(err, &unknown) && len(unknown.Errors) > 0 {
		row, _ := unknown.Errors[0].Position()
		return fmt.Errorf("line %d: unknown key %q; known are machine, memory, cpus, kernel, initramfs, guests, vmm, qemu, network, spoofing, ingress, egress, ingress_frames, egress_frames, cache, mitigations, pod_annotations and debug",
			row, strings.Join(unknown.Errors[0].Key(), "."))
	}
	var syntax *toml.DecodeError
	if errors.As(err, &syntax) {
		row, column := syntax.Position()
		return fmt.Errorf("line %d, column %d: %w", row, column, err)
	}
	return err
}

// Validate checks the values that are set.
func (c Config) Validate() error {
	if !slices.Contains([]string{"", MachineAuto, MachineKVM, MachineSoftware}, c.Machine) {
		return fmt.Errorf("machine: %q is not one of auto, kvm, software", c.Machine)
	}
	if !slices.Contains([]string{"", NetworkAuto, NetworkUser, NetworkNone}, c.Network) {
		return fmt.Errorf("network: %q is not one of auto, user, none", c.Network)
	}
	if !slices.Contains([]string{"", SpoofingAllow, SpoofingRefuse}, c.Spoofing) {
		return fmt.Errorf("spoofing: %q is not one of allow, refuse", c.Spoofing)
	}
	if !slices.Contains([]string{"", MitigationsOn, MitigationsOff}, c.Mitigations) {
		return fmt.Errorf("mitigations: %q is not one of on, off", c.Mitigations)
	}
	if _, err := c.Caches(); err != nil {
		return err
	}
	if c.Memory != 0 && c.Memory < MinMemory {
		return fmt.Errorf("memory: %d MiB is less than the %d MiB that a guest needs", c.Memory, MinMemory)
	}
	if c.CPUs < 0 || c.CPUs > MaxCPUs {
		return fmt.Errorf("cpus: %d is not between 1 and %d", c.CPUs, MaxCPUs)
	}
	for _, pattern := range c.Guests {
		if _, err := path.Match(pattern, ""); err != nil || !path.IsAbs(pattern) {
			return fmt.Errorf("guests: %q is no pattern of absolute paths such as \"/usr/local/lib/microvm/guests/*\"", pattern)
		}
	}
	for _, pattern := range c.PodAnnotations {
		if _, err := path.Match(pattern, ""); err != nil {
			return fmt.Errorf("pod_annotations: %q is no pattern such as \"io.microvm.*\"", pattern)
		}
	}
	return nil
}

// Publications are the ports of a container in the user-mode network that can be
// reached on the host, in the form HOST:PORT=PORT[/udp]. Publish lists them as
// [HOST:]PORT:PORT[/udp], the host's first, separated by commas; HOST is 127.0.0.1
// unless said otherwise.
func (c Config) Publications() ([]string, error) {
	var all []string
	for _, p := range strings.FieldsFunc(c.Publish, func(r rune) bool { return r == ',' }) {
		i := strings.LastIndexByte(p, ':')
		if i < 0 {
			return nil, fmt.Errorf("publish: %q is not of the form [HOST:]PORT:PORT[/udp]", p)
		}
		host, guest := p[:i], p[i+1:]
		if !strings.Contains(host, ":") {
			host = "127.0.0.1:" + host
		}
		for _, port := range []string{host[strings.LastIndexByte(host, ':')+1:], strings.TrimSuffix(guest, "/udp")} {
			if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
				return nil, fmt.Errorf("publish: %q in %q is no port", port, p)
			}
		}
		all = append(all, host+"="+guest)
	}
	return all, nil
}
