package bundle

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func p[T any](v T) *T { return &v }

// site writes a bundle whose configuration is the example, changed.
func site(t *testing.T, change func(*specs.Spec)) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "rootfs"), 0o755); err != nil {
		t.Fatal(err)
	}
	spec := Example()
	if change != nil {
		change(spec)
	}
	data, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, string(data))
	return dir
}

func write(t *testing.T, dir, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, ConfigFile), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestExamplesAreValid(t *testing.T) {
	b, err := Load(site(t, nil))
	if err != nil || b.Rootfs() != b.Dir+"/rootfs" {
		t.Error(err)
	}
	if err := Validate(ExampleRootless()); err != nil {
		t.Error(err)
	}
}

func TestMistakesNameTheField(t *testing.T) {
	add := func(m specs.Mount) func(*specs.Spec) {
		return func(s *specs.Spec) { s.Mounts = append(s.Mounts, m) }
	}
	for want, change := range map[string]func(*specs.Spec){
		"ociVersion: must be set":               func(s *specs.Spec) { s.Version = "" },
		`ociVersion: "2.0.0" is not supported`:  func(s *specs.Spec) { s.Version = "2.0.0" },
		`ociVersion: "1"`:                       func(s *specs.Spec) { s.Version = "1" },
		"process: process property must not":    func(s *specs.Spec) { s.Process = nil },
		"process.args: args must not be empty":  func(s *specs.Spec) { s.Process.Args = nil },
		"process.cwd: Cwd property must not":    func(s *specs.Spec) { s.Process.Cwd = "" },
		`process.cwd: Cwd must be an absolute`:  func(s *specs.Spec) { s.Process.Cwd = "tmp" },
		"process.env[2]":                        func(s *specs.Spec) { s.Process.Env = append(s.Process.Env, "A=\x00") },
		"process.apparmorProfile":               func(s *specs.Spec) { s.Process.ApparmorProfile = "profile-of-mine" },
		"wrong rlimit value: RLIMIT_FOO":        func(s *specs.Spec) { s.Process.Rlimits[0].Type = "RLIMIT_FOO" },
		"soft limit 2 is over hard limit 1":     func(s *specs.Spec) { s.Process.Rlimits[0] = specs.POSIXRlimit{Type: "RLIMIT_CORE", Soft: 2, Hard: 1} },
		"RLIMIT_NOFILE is there twice":          func(s *specs.Spec) { s.Process.Rlimits = append(s.Process.Rlimits, s.Process.Rlimits...) },
		"root.path: root must be specified":     func(s *specs.Spec) { s.Root = nil },
		"root.path: invalid rootfs: stat":       func(s *specs.Spec) { s.Root.Path = "nothing" },
		"config.json is not a directory":        func(s *specs.Spec) { s.Root.Path = "config.json" },
		`mounts[7].destination: must not be em`: add(specs.Mount{Type: "tmpfs"}),
		`mounts[7].type: /x: a file system of`:  add(specs.Mount{Destination: "/x", Type: "cifs"}),
		"mounts[7].source: /x: a bind mount":    add(specs.Mount{Destination: "/x", Type: "bind"}),
		`duplicated ns "pid"`: func(s *specs.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: "pid"})
		},
		`namespace "foo" does not exist`:                       func(s *specs.Spec) { s.Linux.Namespaces[0].Type = "foo" },
		"/proc/1/ns/pid is the host's":                         func(s *specs.Spec) { s.Linux.Namespaces[0].Path = "/proc/1/ns/pid" },
		`hooks.poststop[0].path: "x" must be an absolute path`: func(s *specs.Spec) { s.Hooks = &specs.Hooks{Poststop: []specs.Hook{{Path: "x"}}} },
		"hooks.startContainer[0].timeout: must be greater than zero, not 0": func(s *specs.Spec) {
			s.Hooks = &specs.Hooks{StartContainer: []specs.Hook{{Path: "/x", Timeout: new(int)}}}
		},
		"linux.intelRdt":             func(s *specs.Spec) { s.Linux.IntelRdt = &specs.LinuxIntelRdt{} },
		"linux.memoryPolicy":         func(s *specs.Spec) { s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{} },
		"linux.netDevices":           func(s *specs.Spec) { s.Linux.NetDevices = map[string]specs.LinuxNetDevice{"eth0": {}} },
		"linux.seccomp.listenerPath": func(s *specs.Spec) { s.Linux.Seccomp = &specs.LinuxSeccomp{ListenerPath: "/x"} },
		"vm: is not supported":       func(s *specs.Spec) { s.VM = &specs.VM{} },
		"windows: is for another":    func(s *specs.Spec) { s.Windows = &specs.Windows{} },
	} {
		dir := site(t, change)
		if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), dir+"/config.json: ") {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

func TestBrokenFiles(t *testing.T) {
	for text, want := range map[string]string{
		"{\n  bad":           "config.json: line 2, column 4: invalid character 'b'",
		`{"ociVersion": 1}`:  "ociVersion: a JSON number cannot be a string",
		`{"process": {`:      "unexpected end of JSON input",
		`{"mounts": [true]}`: "mounts: a JSON bool",
		`null`:               "ociVersion",
		``:                   "unexpected end",
	} {
		dir := t.TempDir()
		write(t, dir, text)
		if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
	if _, err := Load("/no/such/bundle"); err == nil || !strings.Contains(err.Error(), "stat /no/such/bundle: no such file") {
		t.Error(err)
	}
	if _, err := Load(t.TempDir()); err == nil || !strings.Contains(err.Error(), "config.json not found") {
		t.Error(err)
	}
}

func load(t *testing.T, change func(*specs.Spec)) *Bundle {
	t.Helper()
	b, err := Load(site(t, change))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Both are legal, though nobody should write them.
func TestRelativeAndRepeatedDestinations(t *testing.T) {
	b := load(t, func(s *specs.Spec) {
		s.Root.Readonly = true
		s.Mounts = []specs.Mount{{Type: "tmpfs", Destination: "a/../b/"}, {Type: "tmpfs", Destination: "/b"}}
	})
	plan, err := b.Split("x", os.Stat)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range plan.Guest.Mounts {
		if m.Destination != "/b" {
			t.Errorf("%+v", m)
		}
	}
	if want := []Mountpoint{{"/b", false}, {"/b", false}}; len(plan.Guest.Mounts) != 2 || !slices.Equal(plan.Mountpoints, want) {
		t.Errorf("%+v", plan.Mountpoints)
	}
}

func TestSplitMounts(t *testing.T) {
	host := t.TempDir()
	write(t, host, "a file")
	b := load(t, func(s *specs.Spec) {
		s.Root.Readonly = false
		s.Mounts = append(s.Mounts,
			specs.Mount{Destination: "/vol", Type: "bind", Source: host, Options: []string{"rbind", "rw"}},
			specs.Mount{Destination: "/etc/file", Source: host + "/config.json", Options: []string{"bind", "rw", "ro"}},
			specs.Mount{Destination: "/rel", Type: "none", Source: "rootfs", Options: []string{"rbind", "rslave"}},
			specs.Mount{Destination: "/ids", Type: "bind", Source: host, Options: []string{"bind", "ridmap"}})
	})
	before, _ := json.Marshal(b.Spec)
	plan, err := b.Split("the-id", os.Stat)
	if err != nil {
		t.Fatal(err)
	}
	if want := []Export{
		{Name: "rootfs", Path: b.Dir + "/rootfs", Submounts: true, Destination: "/"}, {Name: "mount7", Path: host, Submounts: true, Destination: "/vol"},
		{Name: "mount8", Path: host + "/config.json", ReadOnly: true, Destination: "/etc/file"},
		{Name: "mount9", Path: b.Dir + "/rootfs", Submounts: true, Follow: true, Destination: "/rel"},
		{Name: "mount10", Path: host, OneDevice: true, Destination: "/ids"},
	}; !slices.Equal(plan.Exports, want) {
		t.Errorf("exports %+v", plan.Exports)
	}
	g := plan.Guest
	if g.Root.Path != "/run/microvm/exports/rootfs" || g.Mounts[8].Source != "/run/microvm/exports/mount8" || g.Mounts[0].Source != "proc" {
		t.Errorf("%+v %+v", g.Root, g.Mounts)
	}
	if len(plan.Mountpoints) != 0 {
		t.Errorf("a writable root needs no mount points made: %v", plan.Mountpoints)
	}
	if after, _ := json.Marshal(b.Spec); string(after) != string(before) {
		t.Error("the bundle was changed")
	}
}

func TestMountpointsOfAReadOnlyRoot(t *testing.T) {
	host := t.TempDir()
	write(t, host, "")
	b := load(t, func(s *specs.Spec) {
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/etc/hosts", Type: "bind", Source: host + "/config.json"},
			specs.Mount{Destination: "/devel", Type: "tmpfs"})
	})
	plan, err := b.Split("x", os.Stat)
	want := []Mountpoint{{"/proc", false}, {"/dev", false}, {"/sys", false}, {"/etc/hosts", true}, {"/devel", false}}
	if err != nil || !slices.Equal(plan.Mountpoints, want) || !plan.Exports[0].ReadOnly || !plan.Guest.Root.Readonly {
		t.Errorf("%v %+v", err, plan)
	}
}

func TestSourcesThatCannotBeShared(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "missing")
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for source, want := range map[string]string{
		fifo: "no such file", socket: socket + " is a socket", "/proc/self/ns": "a process of the host",
	} {
		b := load(t, func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/x", Type: "bind", Source: source})
		})
		if _, err := b.Split("x", os.Stat); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "mounts[7].source: /x") {
			t.Errorf("%s: %v", source, err)
		}
	}
}

func TestSplitLinux(t *testing.T) {
	b := load(t, func(s *specs.Spec) {
		s.Linux.CgroupsPath = "system.slice:docker:abc"
		s.Linux.Namespaces[1].Path = "/run/netns/x"
		s.Linux.MountLabel = "l"
		s.Linux.Resources.CPU = &specs.LinuxCPU{Cpus: "2-3", Mems: "0", Shares: p(uint64(7))}
		s.Process.ApparmorProfile, s.Process.SelinuxLabel = "docker-default", "l"
		s.Annotations = map[string]string{"io.microvm.memory": "256", "a": "b"}
	})
	plan, err := b.Split("the-id", os.Stat)
	if err != nil {
		t.Fatal(err)
	}
	l := plan.Guest.Linux
	if l.CgroupsPath != "/the-id" || l.MountLabel != "" || l.Resources.CPU.Cpus != "" || *l.Resources.CPU.Shares != 7 {
		t.Errorf("%+v", l)
	}
	for _, ns := range l.Namespaces {
		if ns.Type == specs.NetworkNamespace || ns.Path != "" {
			t.Errorf("%+v", ns)
		}
	}
	if len(l.MaskedPaths) == 0 || len(l.ReadonlyPaths) == 0 || len(l.Resources.Devices) == 0 {
		t.Error("something for the guest was lost")
	}
	if plan.Guest.Process.ApparmorProfile != "" || b.Spec.Process.ApparmorProfile == "" || len(plan.Guest.Annotations) != 1 {
		t.Error("labels or annotations")
	}
}

func TestNetworkSysctlsKeepANetworkNamespace(t *testing.T) {
	b := load(t, func(s *specs.Spec) {
		s.Linux.Sysctl = map[string]string{"net.ipv4.ping_group_range": "0 0"}
		s.Linux.Namespaces[1].Path = "/run/netns/x"
	})
	plan, err := b.Split("x", os.Stat)
	if err != nil || !slices.Contains(plan.Guest.Linux.Namespaces, specs.LinuxNamespace{Type: specs.NetworkNamespace}) {
		t.Error(err, plan.Guest.Linux.Namespaces)
	}
}

func TestSizes(t *testing.T) {
	for _, c := range []struct {
		mem  *specs.LinuxMemory
		cpu  *specs.LinuxCPU
		want Size
	}{
		{nil, nil, Size{}},
		{&specs.LinuxMemory{Limit: p(int64(-1))}, nil, Size{}},
		{&specs.LinuxMemory{Limit: p(int64(64 << 20))}, nil, Size{Memory: 64 << 20}},
		{nil, &specs.LinuxCPU{Quota: p(int64(150000))}, Size{MilliCPUs: 1500}},
		{nil, &specs.LinuxCPU{Quota: p(int64(20000)), Period: p(uint64(10000))}, Size{MilliCPUs: 2000}},
		{nil, &specs.LinuxCPU{Quota: p(int64(-1)), Cpus: "0-2,2,7"}, Size{MilliCPUs: 4000}},
		{nil, &specs.LinuxCPU{Quota: p(int64(100000)), Cpus: "0-3"}, Size{MilliCPUs: 1000}},
		{nil, &specs.LinuxCPU{Cpus: "x,-1,5-2"}, Size{}},
	} {
		if got := SizeOf(&specs.LinuxResources{Memory: c.mem, CPU: c.cpu}); got != c.want {
			t.Errorf("%+v %+v: %+v", c.mem, c.cpu, got)
		}
	}
	if n := len(cpuList("0-4000000000")); n > 4096 {
		t.Error(n)
	}
}

// An exec would fail with the numbers of CPUs that the guest does not have.
func TestCPUsOfTheHostAreNotTheGuests(t *testing.T) {
	b := load(t, func(s *specs.Spec) { s.Process.ExecCPUAffinity = &specs.CPUAffinity{Initial: "7"} })
	plan, err := b.Split("x", os.Stat)
	if err != nil || plan.Guest.Process.ExecCPUAffinity != nil || b.Spec.Process.ExecCPUAffinity == nil {
		t.Errorf("%+v %v", plan, err)
	}
	if len(plan.Notices) != 1 || !strings.Contains(plan.Notices[0], "execCPUAffinity") {
		t.Errorf("%q", plan.Notices)
	}
}

// TestEveryFieldIsDecided fails when the specification gains a field that
// nobody has thought about.
func TestEveryFieldIsDecided(t *testing.T) {
	decided := map[reflect.Type]string{
		reflect.TypeFor[specs.Spec](): "Version Process Root Hostname Domainname Mounts Annotations Linux " +
			"Hooks Solaris Windows VM ZOS FreeBSD",
		reflect.TypeFor[specs.Process](): "Terminal ConsoleSize User Args CommandLine Env Cwd Capabilities Rlimits NoNewPrivileges " +
			"ApparmorProfile OOMScoreAdj Scheduler SelinuxLabel IOPriority ExecCPUAffinity",
		reflect.TypeFor[specs.Linux](): "UIDMappings GIDMappings Sysctl Resources CgroupsPath Namespaces Devices NetDevices Seccomp " +
			"RootfsPropagation MaskedPaths ReadonlyPaths MountLabel IntelRdt MemoryPolicy Personality TimeOffsets",
		reflect.TypeFor[specs.LinuxResources](): "Devices Memory CPU Pids BlockIO HugepageLimits Network Rdma Unified",
		reflect.TypeFor[specs.Mount]():          "Destination Type Source Options UIDMappings GIDMappings",
	}
	for typ, names := range decided {
		known := strings.Fields(names)
		for i := range typ.NumField() {
			if name := typ.Field(i).Name; !slices.Contains(known, name) {
				t.Errorf("%s.%s: pass it to the guest, do it on the host, or refuse it", typ, name)
			}
		}
	}
}

func TestHostDevicesStayOnTheHost(t *testing.T) {
	weight := uint16(100)
	r := &specs.LinuxResources{
		CPU:     &specs.LinuxCPU{Cpus: "3", Mems: "1"},
		BlockIO: &specs.LinuxBlockIO{Weight: &weight, ThrottleReadBpsDevice: make([]specs.LinuxThrottleDevice, 1)},
	}
	g := GuestResources(r)
	if g.CPU.Cpus != "" || g.CPU.Mems != "" || g.BlockIO != nil {
		t.Errorf("%+v %+v", g.CPU, g.BlockIO)
	}
	if r.CPU.Cpus != "3" || len(r.BlockIO.ThrottleReadBpsDevice) != 1 {
		t.Error("the bundle was changed")
	}
}
