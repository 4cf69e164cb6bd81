package bundle

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/microvm/microvm/agent/api"
)

// Annotations by which containerd's CRI plugin groups containers into pods, and
// says what all containers of a pod may use together.
const (
	containerTypeAnnotation = "io.kubernetes.cri.container-type"
	sandboxAnnotation       = "io.kubernetes.cri.sandbox-id"
	podPeriodAnnotation     = "io.kubernetes.cri.sandbox-cpu-period"
	podQuotaAnnotation      = "io.kubernetes.cri.sandbox-cpu-quota"
	podSharesAnnotation     = "io.kubernetes.cri.sandbox-cpu-shares"
	podMemoryAnnotation     = "io.kubernetes.cri.sandbox-memory"
)

// PodID is the pod that annotations name, or "".
func PodID(annotations map[string]string) string { return annotations[sandboxAnnotation] }

// IsSandbox tells whether this is a pod's first container, which stands for the
// pod and runs nothing of its own.
func (b *Bundle) IsSandbox() bool {
	return PodID(b.Spec.Annotations) != "" && b.Spec.Annotations[containerTypeAnnotation] == "sandbox"
}

// ofHost is what a pod shares with the host if its sandbox has no namespace of a
// kind, and the field by which it asks for that.
var ofHost = []struct {
	kind        specs.LinuxNamespaceType
	what, field string
}{
	{specs.PIDNamespace, "processes", "hostPID"},
	{specs.IPCNamespace, "System V IPC and shared memory", "hostIPC"},
}

// refusedInPod is an error if a pod or one of its containers asks for what is the
// host's.
func (b *Bundle) refusedInPod() error {
	if b.IsSandbox() {
		for _, h := range ofHost {
			if !hasNamespace(b.Spec.Linux, h.kind) {
				return fmt.Errorf("the pod asks for the host's %s (%s), which are another kernel's than its machine's: leave it out, or give the pod another runtime class", h.what, h.field)
			}
		}
		return nil
	}
	if PodID(b.Spec.Annotations) == "" {
		return nil
	}
	for i, m := range b.Spec.Mounts {
		if IsBind(m) && (slices.Contains(m.Options, "rshared") || slices.Contains(m.Options, "shared")) {
			return invalid(fmt.Sprintf("mounts[%d].options", i), "%s: the host cannot have what is mounted in a machine (mountPropagation: Bidirectional): leave it out, or give the pod another runtime class", m.Destination)
		}
	}
	return nil
}

// podResources are those of a whole pod, nil if annotations say nothing.
func podResources(annotations map[string]string) (*specs.LinuxResources, error) {
	numbers := map[string]int64{}
	for _, key := range []string{podPeriodAnnotation, podQuotaAnnotation, podSharesAnnotation, podMemoryAnnotation} {
		text, ok := annotations[key]
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, invalid(fmt.Sprintf("annotations[%q]", key), "%q is not a number", text)
		}
		numbers[key] = n
	}
	if len(numbers) == 0 {
		return nil, nil
	}
	r := &specs.LinuxResources{CPU: &specs.LinuxCPU{}}
	if n := numbers[podQuotaAnnotation]; n > 0 {
		r.CPU.Quota = &n
	}
	if n := uint64(max(0, numbers[podPeriodAnnotation])); n > 0 {
		r.CPU.Period = &n
	}
	if n := uint64(max(0, numbers[podSharesAnnotation])); n > 0 {
		r.CPU.Shares = &n
	}
	if n := numbers[podMemoryAnnotation]; n > 0 {
		r.Memory = &specs.LinuxMemory{Limit: &n}
	}
	return r, nil
}

// PodSize is what all containers of a pod may use together, as Kubernetes says
// it; zero is nothing said.
type PodSize struct{ Period, Quota, Shares, Memory int64 }

// SandboxAnnotations are those by which a bundle is the sandbox of the pod id, of
// which size may be nil.
func SandboxAnnotations(id string, size *PodSize) map[string]string {
	all := map[string]string{containerTypeAnnotation: "sandbox", sandboxAnnotation: id}
	if size != nil {
		for key, n := range map[string]int64{
			podPeriodAnnotation: size.Period, podQuotaAnnotation: size.Quota, podSharesAnnotation: size.Shares, podMemoryAnnotation: size.Memory,
		} {
			all[key] = strconv.FormatInt(n, 10)
		}
	}
	return all
}

// Pod is what a container's pod has for it; zero is none.
type Pod struct {
	// PID is the host's process that stands for the machine: its namespaces can
	// be joined.
	PID int
	// Peers are what stands among the host's processes for other containers of
	// the pod, whose processes can be shared.
	Peers []int
	// Dir may have PodFiles.
	Dir string
}

// PodFiles are the names of files in a sandbox's bundle by the place where the
// pod's containers have them, unless something else is mounted there.
var PodFiles = map[string]string{"/etc/hostname": "hostname", "/etc/hosts": "hosts", "/etc/resolv.conf": "resolv.conf"}

// files are mounts of those files that are there.
func (p Pod) files(spec *specs.Spec) (mounts []specs.Mount) {
	if p.Dir == "" {
		return nil
	}
	options := []string{"rbind", "rprivate"}
	if spec.Root != nil && spec.Root.Readonly {
		options = append(options, "ro")
	}
	for _, at := range slices.Sorted(maps.Keys(PodFiles)) {
		source := filepath.Join(p.Dir, PodFiles[at])
		taken := slices.ContainsFunc(spec.Mounts, func(m specs.Mount) bool { return m.Destination == at })
		if _, err := os.Lstat(source); err == nil && !taken {
			mounts = append(mounts, specs.Mount{Destination: at, Type: "bind", Source: source, Options: options})
		}
	}
	return mounts
}

// joinable are the namespaces of a pod that its containers may share.
var joinable = []specs.LinuxNamespaceType{specs.IPCNamespace, specs.UTSNamespace, specs.PIDNamespace, specs.UserNamespace}

// JoinedPID is the process whose namespaces the bundle in dir names, 0 if it names
// none or cannot be read, which Load says better.
func JoinedPID(dir string) int {
	var spec struct {
		Linux struct {
			Namespaces []specs.LinuxNamespace `json:"namespaces"`
		} `json:"linux"`
	}
	if err := readJSON(filepath.Join(dir, ConfigFile), &spec); err != nil {
		return 0
	}
	for _, ns := range spec.Linux.Namespaces {
		rest, inProc := strings.CutPrefix(ns.Path, "/proc/")
		text, file, _ := strings.Cut(rest, "/")
		if pid, err := strconv.ParseUint(text, 10, 31); inProc && err == nil && file == "ns/"+procNames[ns.Type] {
			return int(pid)
		}
	}
	return 0
}

// join takes the namespaces out of the configuration that are those of the pod, or
// of a container in it, and keeps in mind which these are.
func (b *Bundle) join(pod Pod) {
	l := b.Spec.Linux
	if l == nil || pod.PID == 0 {
		return
	}
	l.Namespaces = slices.DeleteFunc(l.Namespaces, func(ns specs.LinuxNamespace) bool {
		if !slices.Contains(joinable, ns.Type) {
			return false
		}
		of := func(pid int) bool { return ns.Path == fmt.Sprintf("/proc/%d/ns/%s", pid, procNames[ns.Type]) }
		if i := slices.IndexFunc(pod.Peers, of); i >= 0 && ns.Type == specs.PIDNamespace {
			b.target = pod.Peers[i]
		} else if !of(pod.PID) {
			return false
		}
		b.joined = append(b.joined, ns.Type)
		return true
	})
}

// Target is what stands on the host for the container whose processes this one
// shares (as of `kubectl debug --target`), 0 if there is none.
func (b *Bundle) Target() int { return b.target }

// Joins tells whether the container shares a kind of namespace with its pod, or with
// a container of it.
func (b *Bundle) Joins(kind specs.LinuxNamespaceType) bool { return slices.Contains(b.joined, kind) }

// guestPod makes the guest's configuration that of a container of a pod: what
// the pod shares is the machine's own.
func (p *Plan) guestPod(b *Bundle) {
	if b.Joins(specs.UTSNamespace) || !hasNamespace(b.Spec.Linux, specs.UTSNamespace) {
		p.Guest.Hostname, p.Guest.Domainname = "", "" // the machine's
	}
	// What a container's kernel finds as a device is mounted in its namespace
	// only, and another container's has other inodes: a socket would not join
	// the two.
	for i := range p.Exports {
		p.Exports[i].OneDevice = true
	}
}

// makeOwnUser has a pod's sandbox make a user namespace in the guest, like the one
// that containerd has made for the pod's network on the host.
func (b *Bundle) makeOwnUser() {
	l := b.Spec.Linux
	if l == nil || !b.IsSandbox() || len(l.UIDMappings) == 0 {
		return
	}
	for i := range l.Namespaces {
		if ns := &l.Namespaces[i]; ns.Type == specs.UserNamespace {
			ns.Path = ""
		}
	}
}

// Joined are the kinds of namespaces that the container shares with its pod, or
// with the container whose machine it is in. A user namespace has the network's
// with it, or its root had no rights there.
func (b *Bundle) Joined() []specs.LinuxNamespaceType {
	if b.Joins(specs.UserNamespace) {
		return append(slices.Clone(b.joined), specs.NetworkNamespace)
	}
	return b.joined
}

// Held are those of Joined that a pod's machine does not have by itself: a process
// in the guest has to hold them.
func (b *Bundle) Held() (kinds []specs.LinuxNamespaceType) {
	switch {
	case b.Joins(specs.UserNamespace):
		kinds = slices.Clone(b.Joined())
	case b.Joins(specs.PIDNamespace):
		kinds = []specs.LinuxNamespaceType{specs.PIDNamespace}
	}
	return slices.DeleteFunc(kinds, func(k specs.LinuxNamespaceType) bool { return b.target != 0 && k == specs.PIDNamespace })
}

// procNames are the files in /proc/PID/ns.
var procNames = map[specs.LinuxNamespaceType]string{
	specs.IPCNamespace: "ipc", specs.UTSNamespace: "uts", specs.PIDNamespace: "pid", specs.UserNamespace: "user", specs.NetworkNamespace: "net",
}

// Join gives the container namespaces of the guest's process pid.
func (p *Plan) Join(pid uint32, kinds []specs.LinuxNamespaceType) {
	l := p.Guest.Linux
	l.Namespaces = slices.DeleteFunc(slices.Clone(l.Namespaces), func(ns specs.LinuxNamespace) bool { return slices.Contains(kinds, ns.Type) })
	for _, kind := range kinds {
		l.Namespaces = append(l.Namespaces, specs.LinuxNamespace{Type: kind, Path: fmt.Sprintf("/proc/%d/ns/%s", pid, procNames[kind])})
	}
}

// RunPause makes the container's program the guest's own, which holds namespaces
// and collects orphans.
func (p *Plan) RunPause() {
	p.Guest.Mounts = append(p.Guest.Mounts, specs.Mount{Destination: "/pause", Type: "bind", Source: api.AgentPath, Options: []string{"bind", "ro"}})
	p.Guest.Process.Args = []string{"/pause", api.PauseArgument}
}

// InheritSysctls gives the container the settings of its pod's network, which
// CRI writes into the sandbox's configuration only.
func (p *Plan) InheritSysctls(sandbox *Bundle) {
	if sandbox.Spec.Linux == nil {
		return
	}
	all := map[string]string{}
	for k, v := range sandbox.Spec.Linux.Sysctl {
		if ofNetwork(k) {
			all[k] = v
		}
	}
	maps.Copy(all, p.Guest.Linux.Sysctl)
	p.Guest.Linux.Sysctl = all
}

// SharedSysctls are the settings of a pod's IPC that the sandbox's configuration
// has. One that belongs to no namespace of a pod is an error.
func (b *Bundle) SharedSysctls() (map[string]string, error) {
	all := map[string]string{}
	if b.Spec.Linux == nil {
		return all, nil
	}
	for k, v := range b.Spec.Linux.Sysctl {
		name := strings.ReplaceAll(k, "/", ".")
		switch {
		case ofNetwork(name):
		case api.SysctlOfIPC(name):
			all[name] = v
		default:
			return nil, invalid(fmt.Sprintf("linux.sysctl[%q]", k), "it is not in a namespace of the pod: leave it out")
		}
	}
	return all, nil
}

// ofNetwork tells whether a sysctl is one of a network namespace.
func ofNetwork(sysctl string) bool {
	return strings.HasPrefix(strings.ReplaceAll(sysctl, "/", "."), "net.")
}
