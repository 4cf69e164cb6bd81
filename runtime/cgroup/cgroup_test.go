package cgroup

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/systemd"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestPathsAreRuncs(t *testing.T) {
	for _, c := range []struct {
		path    string
		systemd bool
		want    cgroups.Cgroup
	}{
		{"", false, cgroups.Cgroup{Name: "id"}},
		{"/a/../../b", false, cgroups.Cgroup{Path: "/b"}},
		{"../../a", false, cgroups.Cgroup{Path: "a"}},
		{"", true, cgroups.Cgroup{ScopePrefix: scopePrefix, Name: "id"}},
		{"system.slice:docker:1234", true, cgroups.Cgroup{Parent: "system.slice", ScopePrefix: "docker", Name: "1234"}},
	} {
		got, err := newConfig("id", c.path, c.systemd)
		if err != nil {
			t.Fatal(err)
		}
		if got.Path != c.want.Path || got.Name != c.want.Name || got.Parent != c.want.Parent || got.ScopePrefix != c.want.ScopePrefix {
			t.Errorf("%q: %+v", c.path, got)
		}
	}
	if _, err := newConfig("id", "/a/b", true); err == nil || !strings.Contains(err.Error(), "slice:prefix:name") {
		t.Error(err)
	}
}

func TestResources(t *testing.T) {
	limit, swap, reservation, unlimited := int64(64), int64(80), int64(32), int64(-1)
	quota, weight := int64(50000), uint16(100)
	r := Resources(&specs.LinuxResources{
		Memory:  &specs.LinuxMemory{Limit: &limit, Swap: &swap, Reservation: &reservation},
		CPU:     &specs.LinuxCPU{Quota: &quota, Cpus: "0"},
		BlockIO: &specs.LinuxBlockIO{Weight: &weight, ThrottleReadBpsDevice: []specs.LinuxThrottleDevice{{Rate: 7}}},
		Pids:    &specs.LinuxPids{Limit: &limit},
		Unified: map[string]string{"memory.high": "1"},
	}, Machine{Memory: 100})
	if r.Memory != 100 || r.MemorySwap != 116 || r.MemoryReservation != 68 || r.CpuQuota != quota || r.CpusetCpus != "0" ||
		r.BlkioWeight != weight || len(r.BlkioThrottleReadBpsDevice) != 1 || r.PidsLimit != nil || r.Unified != nil || !r.SkipDevices {
		t.Errorf("%+v", r)
	}
	if r := Resources(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &unlimited, Swap: &unlimited}}, Machine{Memory: 100}); r.Memory != -1 || r.MemorySwap != -1 {
		t.Errorf("unlimited: %+v", r)
	}
	if Limits(nil) || Limits(&specs.LinuxResources{Pids: &specs.LinuxPids{}}) || !Limits(&specs.LinuxResources{CPU: &specs.LinuxCPU{}}) {
		t.Error("limits of the host's")
	}
	if r := Resources(nil, Machine{Memory: 100}); r.Memory != 0 {
		t.Errorf("none: %+v", r)
	}
}

// TestJoinLimitLeaveRemove works on the host's real cgroups.
func TestJoinLimitLeaveRemove(t *testing.T) {
	c, err := New("x", "/microvm-unit-test", false)
	if err == nil {
		err = c.Join()
	}
	if errors.Is(err, ErrUnusable) {
		t.Skipf("needs cgroups to write to: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	before := c.origin
	t.Cleanup(func() {
		if err := errors.Join(c.Leave(), c.Remove()); err != nil {
			t.Error(err)
		}
	})
	if n := c.MemoryLimit(); n != 0 {
		t.Errorf("limited to %d bytes", n)
	}
	if problems := c.Limit(&cgroups.Resources{SkipDevices: true, Memory: 512 << 20}); problems != nil {
		t.Fatal(problems)
	}
	if n := c.MemoryLimit(); n != 512<<20 {
		t.Errorf("limited to %d bytes", n)
	}
	out, err := exec.Command("cat", "/proc/self/cgroup").Output()
	if err != nil || !strings.Contains(string(out), "/microvm-unit-test\n") {
		t.Errorf("a child is in %s %v", out, err)
	}
	pids := filepath.Join(c.manager.Path("pids"), "pids.max") // cgroup v2 has one path for all
	if text, err := os.ReadFile(pids); strings.TrimSpace(string(text)) != "1024" {
		t.Errorf("limit of processes and threads: %q, %v", text, err)
	}
	other, err := New("y", "/microvm-unit-test", false)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Join(); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("joined a cgroup in use: %v", err)
	}
	if c.OOMKilled() {
		t.Error("nothing was killed")
	}
	// It goes on for longer than the library's own retries.
	last, late := exec.Command("sleep", "2"), exec.Command("sleep", "2")
	if err := last.Start(); err != nil {
		t.Fatal(err)
	}
	go last.Wait()
	if err := c.Leave(); err != nil {
		t.Fatal(err)
	}
	if err := late.Start(); err != nil {
		t.Fatal(err)
	}
	go late.Wait()
	if err := c.Take(late.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if at, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", late.Process.Pid)); err != nil || !strings.Contains(string(at), "/microvm-unit-test\n") {
		t.Errorf("a process that was taken is in %s, %v", at, err)
	}
	for controller, dir := range origin(c.record.Paths) {
		if dir != before[controller] {
			t.Errorf("%s: back in %s, was in %s", controller, dir, before[controller])
		}
	}
	saved, err := Open(c.Record())
	if err != nil {
		t.Fatal(err)
	}
	if err := saved.Remove(); err != nil {
		t.Fatal(err)
	}
	for _, dir := range c.record.Paths {
		if _, err := os.Stat(dir); err == nil && filepath.Base(dir) == "microvm-unit-test" {
			t.Errorf("%s is left", dir)
		}
	}
	if err := saved.Remove(); err != nil {
		t.Errorf("removed twice: %v", err)
	}
}

// A process that joined a frozen cgroup would never be heard of again.
func TestFrozenCgroupIsRefused(t *testing.T) {
	c, err := New("x", "/microvm-unit-test-frozen", false)
	if errors.Is(err, ErrUnusable) {
		t.Skipf("needs cgroups to write to: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	file, text := filepath.Join(c.manager.Path("freezer"), "freezer.state"), "FROZEN"
	if cgroups.IsCgroup2UnifiedMode() {
		file, text = filepath.Join(c.manager.Path(""), "cgroup.freeze"), "1"
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Skipf("needs cgroups to write to: %v", err)
	}
	t.Cleanup(func() {
		if err := os.Remove(filepath.Dir(file)); err != nil {
			t.Error(err)
		}
	})
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := c.checkThawed(); err == nil || !strings.Contains(err.Error(), "unexpectedly frozen: thaw or remove "+filepath.Dir(file)) {
		t.Fatal(err)
	}
	if err := c.Join(); err == nil {
		t.Error("joined")
	}
}

// TestLimitsAreIndependent asks the host's real cgroups for what they cannot
// give, and for limits of controllers that are set before and after that.
func TestLimitsAreIndependent(t *testing.T) {
	c, err := New("x", "/microvm-unit-test-limits", false)
	if err == nil {
		err = c.Join()
	}
	if errors.Is(err, ErrUnusable) {
		t.Skipf("needs cgroups to write to: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(c.Leave(), c.Remove()); err != nil {
			t.Error(err)
		}
	})
	unified := cgroups.IsCgroup2UnifiedMode()
	missing := "block I/O leaf weight" // no kernel since 5.0 has its file
	r := &cgroups.Resources{
		SkipDevices: true, Memory: 300 << 20, MemorySwap: 300 << 20, CpusetCpus: "9999", CpuShares: 512, CpuWeight: 50, CpuQuota: 70000,
		BlkioLeafWeight: 100, BlkioThrottleReadBpsDevice: []*cgroups.ThrottleDevice{cgroups.NewThrottleDevice(9999, 0, 1)},
	}
	problems := c.Limit(r)
	text := fmt.Sprint(problems)
	for _, name := range []string{"cpuset CPUs", missing, "block I/O read rates"} {
		if unified && name == missing {
			continue // cgroup v2 has none to miss
		}
		if !strings.Contains(text, "set "+name+" of") {
			t.Errorf("nothing said about %s: %s", name, text)
		}
	}
	for _, err := range problems {
		if strings.Contains(err.Error(), missing) != errors.Is(err, ErrUnusable) {
			t.Errorf("only what the host lacks is unusable: %v", err)
		}
	}
	if n := c.MemoryLimit(); n != 300<<20 {
		t.Errorf("memory limit is %d", n)
	}
	quota := filepath.Join(c.manager.Path("cpu"), "cpu.cfs_quota_us")
	if unified {
		quota = filepath.Join(c.manager.Path(""), "cpu.max")
	}
	if text, err := os.ReadFile(quota); !strings.HasPrefix(string(text), "70000") {
		t.Errorf("CPU quota is %s %v", text, err)
	}
}

func TestPathsOfSystemd(t *testing.T) {
	for path, want := range map[string]bool{
		"kubepods-besteffort-pod1.slice:cri-containerd:abc": true,
		"/kubepods/besteffort/pod1/abc":                     false,
		"/odd.slice/a:b:c":                                  false,
		"":                                                  false,
		"a.slice:b":                                         false,
	} {
		if got := forSystemd(path); got != want {
			t.Errorf("%q: %v", path, got)
		}
		if got := OfSystemd(path); got != (want && systemd.IsRunningSystemd()) {
			t.Errorf("%q here: %v", path, got)
		}
	}
}
