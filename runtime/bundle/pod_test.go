package bundle

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// writeBundle writes the example, changed, and returns its directory.
func writeBundle(t *testing.T, change func(*specs.Spec)) string {
	t.Helper()
	dir := t.TempDir()
	spec := Example()
	change(spec)
	data, err := json.Marshal(spec)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, ConfigFile), data, 0o644)
	}
	if err == nil {
		err = os.Mkdir(filepath.Join(dir, "rootfs"), 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func podContainer(s *specs.Spec) {
	s.Annotations = map[string]string{containerTypeAnnotation: "container", sandboxAnnotation: "pod"}
	s.Hostname = "own"
	s.Linux.Namespaces = []specs.LinuxNamespace{
		{Type: specs.MountNamespace}, {Type: specs.IPCNamespace, Path: "/proc/42/ns/ipc"},
		{Type: specs.UTSNamespace, Path: "/proc/42/ns/uts"}, {Type: specs.PIDNamespace},
	}
}

func TestContainerSharesWhatItNames(t *testing.T) {
	b, err := LoadInPod(writeBundle(t, podContainer), Pod{PID: 42})
	if err != nil {
		t.Fatal(err)
	}
	for kind, want := range map[specs.LinuxNamespaceType]bool{
		specs.IPCNamespace: true, specs.UTSNamespace: true, specs.PIDNamespace: false, specs.MountNamespace: false,
	} {
		if b.Joins(kind) != want {
			t.Errorf("joins %s: %v", kind, b.Joins(kind))
		}
	}
	p, err := b.Split("c", os.Stat)
	if err != nil {
		t.Fatal(err)
	}
	if p.Guest.Hostname != "" {
		t.Errorf("hostname %q would be set in the pod's namespace", p.Guest.Hostname)
	}
	for _, e := range p.Exports {
		if !e.OneDevice {
			t.Errorf("containers of the pod would see other inodes of export %+v", e)
		}
	}
	for _, ns := range p.Guest.Linux.Namespaces {
		if ns.Type == specs.IPCNamespace || ns.Type == specs.UTSNamespace || ns.Path != "" {
			t.Errorf("namespace %v", ns)
		}
	}
}

func TestProcessesOfAnotherContainer(t *testing.T) {
	debug := func(s *specs.Spec) {
		podContainer(s)
		s.Linux.Namespaces[3].Path = "/proc/44/ns/pid"
	}
	b, err := LoadInPod(writeBundle(t, debug), Pod{PID: 42, Peers: []int{43, 44}})
	if err != nil {
		t.Fatal(err)
	}
	if b.Target() != 44 || !b.Joins(specs.PIDNamespace) || len(b.Held()) != 0 {
		t.Errorf("target %d, joins %v, of the pod %v", b.Target(), b.joined, b.Held())
	}
	if _, err := LoadInPod(writeBundle(t, debug), Pod{PID: 42, Peers: []int{43}}); err == nil || !strings.Contains(err.Error(), "/proc/44/ns/pid") {
		t.Errorf("of a container of another pod: %v", err)
	}
	ipc := func(s *specs.Spec) { podContainer(s); s.Linux.Namespaces[1].Path = "/proc/43/ns/ipc" }
	if _, err := LoadInPod(writeBundle(t, ipc), Pod{PID: 42, Peers: []int{43}}); err == nil {
		t.Error("another namespace of a container is taken")
	}
}

func TestNamespacesOfOthersAreRefused(t *testing.T) {
	for name, pid := range map[string]int{"no pod": 0, "another pod": 43} {
		if _, err := LoadInPod(writeBundle(t, podContainer), Pod{PID: pid}); err == nil || !strings.Contains(err.Error(), "linux.namespaces[1]") {
			t.Errorf("%s: %v", name, err)
		}
	}
	user := func(s *specs.Spec) {
		podContainer(s)
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace, Path: "/proc/43/ns/user"})
	}
	if _, err := LoadInPod(writeBundle(t, user), Pod{PID: 42}); err == nil {
		t.Error("a user namespace of others is taken")
	}
}

func TestFilesOfPod(t *testing.T) {
	pod := t.TempDir()
	for _, name := range []string{"hosts", "resolv.conf"} {
		if err := os.WriteFile(filepath.Join(pod, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	dir := writeBundle(t, func(s *specs.Spec) {
		podContainer(s)
		s.Root.Readonly = true
		s.Mounts = []specs.Mount{{Destination: "etc/hosts", Type: "bind", Source: "/etc/hosts"}}
	})
	b, err := LoadInPod(dir, Pod{PID: 42, Dir: pod})
	if err != nil {
		t.Fatal(err)
	}
	want := specs.Mount{Destination: "/etc/resolv.conf", Type: "bind", Source: pod + "/resolv.conf", Options: []string{"rbind", "rprivate", "ro"}}
	if len(b.Spec.Mounts) != 2 || !reflect.DeepEqual(b.Spec.Mounts[1], want) {
		t.Errorf("%+v", b.Spec.Mounts)
	}
}

func TestUserNamespaceOfPod(t *testing.T) {
	ids := []specs.LinuxIDMapping{{HostID: 65536, Size: 65536}}
	with := func(kind, path string) func(*specs.Spec) {
		return func(s *specs.Spec) {
			podContainer(s)
			s.Annotations[containerTypeAnnotation] = kind
			s.Linux.Sysctl = map[string]string{"net.core.somaxconn": "5"}
			s.Linux.UIDMappings, s.Linux.GIDMappings = ids, ids
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace, Path: path}, specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: "/proc/42/ns/net"})
		}
	}
	b, err := LoadInPod(writeBundle(t, with("container", "/proc/42/ns/user")), Pod{PID: 42})
	if err != nil {
		t.Fatal(err)
	}
	p, err := b.Split("c", os.Stat)
	if err != nil {
		t.Fatal(err)
	}
	p.Join(7, b.Held())
	got := map[specs.LinuxNamespaceType]string{}
	for _, ns := range p.Guest.Linux.Namespaces {
		if _, twice := got[ns.Type]; twice {
			t.Errorf("%s is there twice", ns.Type)
		}
		got[ns.Type] = ns.Path
	}
	if want := map[specs.LinuxNamespaceType]string{
		specs.IPCNamespace: "/proc/7/ns/ipc", specs.UTSNamespace: "/proc/7/ns/uts", specs.UserNamespace: "/proc/7/ns/user", specs.NetworkNamespace: "/proc/7/ns/net",
		specs.PIDNamespace: "", specs.MountNamespace: "", specs.CgroupNamespace: "",
	}; !reflect.DeepEqual(got, want) {
		t.Errorf("%v", got)
	}
	own := func(s *specs.Spec) {
		with("sandbox", "/run/user-of-pod")(s)
		for i := range s.Linux.Namespaces {
			if ns := &s.Linux.Namespaces[i]; strings.HasPrefix(ns.Path, "/proc/42/") {
				ns.Path = ""
			}
		}
	}
	if b, err = Load(writeBundle(t, own)); err != nil || b.Namespace(specs.UserNamespace).Path != "" || len(b.Held()) != 0 {
		t.Errorf("the sandbox: %v, %+v", err, b)
	}
}

func TestPodSizeIsOfAnnotations(t *testing.T) {
	sandbox := func(extra map[string]string) func(*specs.Spec) {
		return func(s *specs.Spec) {
			limit := int64(2)
			s.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}}
			s.Annotations = map[string]string{containerTypeAnnotation: "sandbox", sandboxAnnotation: "pod"}
			for k, v := range extra {
				s.Annotations[k] = v
			}
		}
	}
	for _, c := range []struct {
		name  string
		extra map[string]string
		want  Size
	}{
		{"nothing said", nil, Size{}},
		{"all said", map[string]string{podMemoryAnnotation: "1048576", podQuotaAnnotation: "150000", podPeriodAnnotation: "100000"}, Size{Memory: 1 << 20, MilliCPUs: 1500}},
		{"no limits", map[string]string{podMemoryAnnotation: "0", podQuotaAnnotation: "-1", podPeriodAnnotation: "100000"}, Size{}},
	} {
		b, err := Load(writeBundle(t, sandbox(c.extra)))
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if !b.IsSandbox() {
			t.Errorf("%s: no sandbox", c.name)
		}
		if got := SizeOf(b.Resources()); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
	_, err := Load(writeBundle(t, sandbox(map[string]string{podMemoryAnnotation: "much"})))
	if err == nil || !strings.Contains(err.Error(), podMemoryAnnotation) {
		t.Errorf("no number: %v", err)
	}
}

// TestPodsAskForTheHost are refused by the name of the field in Kubernetes.
func TestPodsAskForTheHost(t *testing.T) {
	sandbox := func(s *specs.Spec) {
		s.Annotations = map[string]string{containerTypeAnnotation: "sandbox", sandboxAnnotation: "pod"}
	}
	without := func(kind specs.LinuxNamespaceType) func(*specs.Spec) {
		return func(s *specs.Spec) {
			sandbox(s)
			s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(ns specs.LinuxNamespace) bool { return ns.Type == kind })
		}
	}
	mount := func(option string, container func(*specs.Spec)) func(*specs.Spec) {
		return func(s *specs.Spec) {
			container(s)
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/x", Type: "bind", Source: "/tmp", Options: []string{"rbind", option}})
		}
	}
	for name, c := range map[string]struct {
		change func(*specs.Spec)
		field  string // in the error, if there is to be one
	}{
		"nothing":                  {sandbox, ""},
		"processes":                {without(specs.PIDNamespace), "hostPID"},
		"IPC":                      {without(specs.IPCNamespace), "hostIPC"},
		"mounts":                   {mount("rshared", podContainer), "mountPropagation"},
		"mounts of the host":       {mount("rslave", podContainer), ""},
		"mounts, but not in a pod": {mount("rshared", func(*specs.Spec) {}), ""},
	} {
		_, err := LoadInPod(writeBundle(t, c.change), Pod{PID: 42})
		if c.field == "" && err != nil || c.field != "" && (err == nil || !strings.Contains(err.Error(), c.field)) {
			t.Errorf("%s: %v, want %q", name, err, c.field)
		}
	}
}

func TestSysctlsOfThePodsNetwork(t *testing.T) {
	sandbox := &Bundle{Spec: &specs.Spec{Linux: &specs.Linux{Sysctl: map[string]string{
		"net.ipv4.ip_unprivileged_port_start": "0", "net/core/somaxconn": "7", "kernel.shm_rmid_forced": "1", "net.ipv4.ping_group_range": "0 1",
	}}}}
	p := &Plan{Guest: &specs.Spec{Linux: &specs.Linux{Sysctl: map[string]string{"net.ipv4.ping_group_range": "0 2"}}}}
	p.InheritSysctls(sandbox)
	want := map[string]string{"net.ipv4.ip_unprivileged_port_start": "0", "net/core/somaxconn": "7", "net.ipv4.ping_group_range": "0 2"}
	if !reflect.DeepEqual(p.Guest.Linux.Sysctl, want) {
		t.Errorf("%v", p.Guest.Linux.Sysctl)
	}
}

func TestSharedSysctls(t *testing.T) {
	b := &Bundle{Spec: &specs.Spec{Linux: &specs.Linux{Sysctl: map[string]string{"kernel/shmmax": "1", "net.core.somaxconn": "2", "fs.mqueue.msg_max": "3"}}}}
	got, err := b.SharedSysctls()
	if want := map[string]string{"kernel.shmmax": "1", "fs.mqueue.msg_max": "3"}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	b.Spec.Linux.Sysctl["kernel.panic"] = "1"
	if _, err := b.SharedSysctls(); err == nil {
		t.Error("a setting of the whole machine")
	}
}

func TestJoinedPID(t *testing.T) {
	for path, want := range map[string]int{
		"": 0, "/proc/42/ns/ipc": 42, "/proc/42/ns/uts": 0, "/proc/self/ns/ipc": 0, "/run/netns/x": 0,
		"/proc/42": 0, "42/ns/ipc": 0, "/proc/42/ns/ipc/x": 0, "/proc/-7/ns/ipc": 0,
	} {
		dir := writeBundle(t, func(s *specs.Spec) {
			s.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.IPCNamespace, Path: path}}
		})
		if got := JoinedPID(dir); got != want {
			t.Errorf("%q: %d, want %d", path, got, want)
		}
	}
	if got := JoinedPID(t.TempDir()); got != 0 {
		t.Errorf("no bundle: %d", got)
	}
}

// Shared memory is the machine's own where others may have it, too.
func TestWhoseSharedMemory(t *testing.T) {
	engines := specs.Mount{Destination: "/dev/shm", Type: "bind", Source: "/dev/shm", Options: []string{"bind"}}
	own := specs.Mount{Destination: "/dev/shm", Type: "tmpfs", Source: "shm"}
	for _, c := range []struct {
		name   string
		mount  specs.Mount
		pod    Pod
		joins  bool
		shared bool
	}{
		{"alone, its engine's", engines, Pod{}, false, true},
		{"alone, its own", own, Pod{}, false, false},
		{"joins", engines, Pod{PID: 42}, true, true},
		{"joins, its own", own, Pod{PID: 42}, true, true},
		{"does not join", engines, Pod{PID: 42}, false, false},
	} {
		b, err := LoadInPod(writeBundle(t, func(s *specs.Spec) {
			s.Mounts = []specs.Mount{c.mount}
			if c.joins {
				s.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.IPCNamespace, Path: "/proc/42/ns/ipc"}}
			}
		}), c.pod)
		if err != nil {
			t.Fatal(err)
		}
		p, err := b.Split("c", os.Stat)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Guest.Mounts[0]; (got.Type == "bind" && got.Source == sharedMemory) != c.shared {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}
