package e2e

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/tests/command"
	"github.com/microvm/microvm/tests/inventory"
)

// cgroupDir is the directory of the machine's cgroup name for a controller.
func cgroupDir(controller, name string) string {
	var st unix.Statfs_t
	if unix.Statfs("/sys/fs/cgroup", &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
		return filepath.Join("/sys/fs/cgroup", name)
	}
	return filepath.Join("/sys/fs/cgroup", controller, name)
}

// requireCgroups skips a test where the host has no memory cgroup to write to.
func requireCgroups(t *testing.T) {
	t.Helper()
	dir := cgroupDir("memory", "microvm-probe")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Skipf("needs a memory cgroup to write to: %v", err)
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
}

func withLimits(path string, memory, quota int64) func(*specs.Spec) {
	return func(spec *specs.Spec) {
		spec.Linux.CgroupsPath = path
		spec.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &memory}
		if quota != 0 {
			spec.Linux.Resources.CPU = &specs.LinuxCPU{Quota: &quota}
		}
	}
}

func readInt(t *testing.T, paths ...string) int64 {
	t.Helper()
	for _, p := range paths {
		data, err := os.ReadFile(p)
		if err != nil {
			continue
		}
		n, err := strconv.ParseInt(strings.Fields(string(data))[0], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	t.Fatalf("none of %v can be read", paths)
	return 0
}

func TestMachineIsInItsHostCgroup(t *testing.T) {
	requireCgroups(t)
	s := newSite(t)
	const path = "/microvm-e2e/machine"
	t.Cleanup(func() {
		for _, pattern := range []string{"/sys/fs/cgroup/microvm-e2e", "/sys/fs/cgroup/*/microvm-e2e"} {
			parents, _ := filepath.Glob(pattern)
			for _, p := range parents {
				if err := unix.Rmdir(p); err != nil {
					t.Errorf("not empty: %s: %v", p, err)
				}
			}
		}
	})
	const limit = 64 << 20
	id, pid, _ := s.detached(s.bundle(sh("sleep 1000; true"), withLimits(path, limit, 80000)))
	pids := append(inventory.ProcessesOf(pid, "microvm-vmm"), pid)
	if machine == "software" {
		pids = append(pids, inventory.ProcessesOf(pid, "qemu-system")...)
		if len(pids) != 3 {
			t.Errorf("processes of the machine: %v", pids)
		}
	}
	for _, p := range pids {
		data, err := os.ReadFile("/proc/" + strconv.Itoa(p) + "/cgroup")
		if err != nil || !strings.Contains(string(data), ":"+path+"\n") {
			t.Errorf("process %d: %s %v", p, data, err)
		}
	}
	memory, cpu := cgroupDir("memory", path), cgroupDir("cpu", path)
	if n := readInt(t, memory+"/memory.limit_in_bytes", memory+"/memory.max"); n <= limit {
		t.Errorf("memory limit of the machine: %d", n)
	}
	if n := readInt(t, cgroupDir("pids", path)+"/pids.max"); n < 100 || n > 10000 {
		t.Errorf("limit of the machine's processes and threads: %d", n)
	}
	if n := readInt(t, cpu+"/cpu.cfs_quota_us", cpu+"/cpu.max"); n != 80000 {
		t.Errorf("CPU quota: %d", n)
	}
	// What a running container is given, its machine is; and that keeps its size.
	before := readInt(t, memory+"/memory.limit_in_bytes", memory+"/memory.max")
	s.command("update", "--cpu-quota", "90000", "--memory", "32M", id).Output()
	if n := readInt(t, cpu+"/cpu.cfs_quota_us", cpu+"/cpu.max"); n != 90000 {
		t.Errorf("CPU quota after update: %d", n)
	}
	if n := readInt(t, memory+"/memory.limit_in_bytes", memory+"/memory.max"); n != before {
		t.Errorf("memory limit of the machine was %d and is %d after update", before, n)
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitPid(t, pid)
	s.command("delete", "--force", id).Output()
	if _, err := os.Stat(memory); !os.IsNotExist(err) {
		t.Errorf("left after delete: %v", err)
	}
	// A failed create leaves none, nor does a run in the foreground.
	o := s.runBundle(s.bundle([]string{"missing-program"}, withLimits(path, limit, 0)))
	if _, err := os.Stat(memory); o.Code != 127 || !os.IsNotExist(err) {
		t.Errorf("left after a failed create: %v %v", err, o)
	}
}

// TestMemoryLimitIsTheGuests uses nearly all of the limit, then more.
func TestMemoryLimitIsTheGuests(t *testing.T) {
	s := newSite(t)
	fill := "dd if=/dev/zero of=/dev/null count=1 bs="
	o := s.runBundle(s.bundle(sh(fill+"56M && echo fits; "+fill+"80M; echo code $?; exec "+fill+"80M"), withLimits("/microvm-e2e-memory", 64<<20, 0)))
	if o.Code != 137 || o.Stdout != "fits\ncode 137\n" || strings.Contains(o.Stderr, "machine broke down") {
		t.Errorf("%v", o)
	}
}

// TestSmallestMemoryLimit starts a container with the smallest limit that is
// accepted, and is refused one below it before there is anything of it.
func TestSmallestMemoryLimit(t *testing.T) {
	const least = 3 << 20
	s := newSite(t)
	if out := s.output(s.bundle(sh("echo up"), withLimits("/microvm-e2e-smallest", least, 0))); out != "up\n" {
		t.Errorf("output %q", out)
	}
	traces := filepath.Join(s.dir, "traces")
	b := s.bundle(sh("echo up"), withLimits("/microvm-e2e-smallest", least-1, 0), func(spec *specs.Spec) {
		//lint:ignore SA1019 docker still writes prestart hooks
		spec.Hooks = &specs.Hooks{Prestart: []specs.Hook{{Path: "/bin/touch", Args: []string{"touch", traces}}}}
	})
	o := s.runBundle(b)
	if o.Code == 0 || !strings.Contains(o.Stderr, "memory limit too low: 3145727 bytes") || !strings.Contains(o.Stderr, "3145728 (3 MiB); raise the limit") {
		t.Errorf("%v", o)
	}
	if _, err := os.Stat(traces); !os.IsNotExist(err) {
		t.Errorf("a hook ran: %v", err)
	}
}

// TestHostsOOMKillIsExplained lowers the machine's limit on the host to little
// more than it has, and has the guest use more.
func TestHostsOOMKillIsExplained(t *testing.T) {
	requireCgroups(t)
	s := newSite(t)
	const path = "/microvm-e2e-oom"
	b := s.bundle(sh("touch /up; while [ ! -e /go ]; do sleep 0.1; done; dd if=/dev/zero of=/dev/null count=1 bs=300M; sleep 1000"),
		func(spec *specs.Spec) { spec.Linux.CgroupsPath = path })
	ended := make(chan command.Outcome, 1)
	go func() { ended <- s.runBundle(b) }()
	command.Eventually(t, "the container is up", func() bool { _, err := os.Stat(b.rootfs("up")); return err == nil })
	dir := cgroupDir("memory", path)
	used := readInt(t, dir+"/memory.usage_in_bytes", dir+"/memory.current")
	file := dir + "/memory.limit_in_bytes"
	if _, err := os.Stat(file); err != nil {
		file = dir + "/memory.max"
	}
	if err := os.WriteFile(file, []byte(strconv.FormatInt(used+32<<20, 10)), 0); err != nil {
		t.Fatal(err)
	}
	limit := readInt(t, file)
	if err := os.WriteFile(b.rootfs("go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	o := <-ended
	want := "out of memory: raise its limit of " + strconv.FormatInt(limit, 10) + " bytes"
	if o.Code == 0 || !strings.Contains(o.Stderr, want) {
		t.Errorf("want %q: %v", want, o)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the cgroup is left: %v", err)
	}
}
