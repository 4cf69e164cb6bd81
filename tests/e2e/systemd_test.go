package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/tests/command"
	program "github.com/microvm/microvm/tests/command"
)

// systemd is one that runs as PID 1 of namespaces of its own, with a cgroup
// that it takes for the whole hierarchy, and no units but those it makes itself.
type systemd struct {
	t      *testing.T
	pid    string
	cgroup string
}

// inNamespaces makes what systemd expects to find; $1 is its cgroup, $2 where
// it looks for units.
const inNamespaces = `echo 0 > "$1/cgroup.procs" && exec unshare --cgroup sh -ec '
	mount -t proc proc /proc; mount -t tmpfs tmpfs /run; umount -l /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup
	exec env container=test SYSTEMD_UNIT_PATH="$1" /lib/systemd/systemd --unit=idle.target' - "$2"`

func startSystemd(t *testing.T) *systemd {
	t.Helper()
	var st unix.Statfs_t
	if unix.Statfs("/sys/fs/cgroup", &st) != nil || st.Type != unix.CGROUP2_SUPER_MAGIC {
		t.Skip("needs cgroup v2")
	}
	units := hostTree(t, map[string]string{"idle.target": "[Unit]\nDescription=Nothing\n"})
	s := &systemd{t: t, cgroup: fmt.Sprintf("/sys/fs/cgroup/e2e-systemd-%d", os.Getpid())}
	if err := os.Mkdir(s.cgroup, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.removeCgroups)
	cmd := exec.Command("unshare", "--pid", "--mount", "--fork", "--kill-child", "sh", "-c", inNamespaces, "-", s.cgroup, units)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	children := fmt.Sprintf("/proc/%d/task/%[1]d/children", cmd.Process.Pid)
	command.Eventually(t, "systemd starts", func() bool {
		data, err := os.ReadFile(children)
		s.pid = strings.TrimSpace(string(data))
		return err == nil && s.pid != "" && s.command("systemctl", "is-system-running").Run().Code == 0
	})
	return s
}

// command is one in systemd's namespaces.
func (s *systemd) command(args ...string) *program.Command {
	return program.New(s.t, append([]string{"nsenter", "-t", s.pid, "-m", "-p", "-C"}, args...)...)
}

// runtime is a call of microvm-runtime there.
func (s *systemd) runtime(at *site, args ...string) *program.Command {
	all := []string{filepath.Join(binDir, "microvm-runtime"), "--root", at.root, "--machine", machine, "--systemd-cgroup"}
	return s.command(append(all, args...)...)
}

// removeCgroups waits for what was killed to be gone.
func (s *systemd) removeCgroups() {
	command.Eventually(s.t, "systemd's cgroups can be removed", func() bool {
		exec.Command("find", s.cgroup, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";").Run()
		_, err := os.Stat(s.cgroup)
		return os.IsNotExist(err)
	})
}

func TestSystemdCgroup(t *testing.T) {
	at := newSite(t)
	systemd := startSystemd(t)
	id := at.name()
	b := at.bundle(sh("sleep 1000; true"), withLimits("system.slice:test:"+id, 64<<20, 80000), func(spec *specs.Spec) {
		period := uint64(100000)
		spec.Linux.Resources.CPU.Period = &period
	})
	systemd.runtime(at, "create", "--bundle", b.dir, id).Detached()
	systemd.runtime(at, "start", id).Output()
	defer systemd.runtime(at, "delete", "--force", id).Run()

	dir := filepath.Join(systemd.cgroup, "system.slice", "test-"+id+".scope")
	if n := readInt(t, dir+"/memory.max"); n <= 64<<20 || n > 400<<20 {
		t.Errorf("memory.max of the scope is %d", n)
	}
	pids, _ := os.ReadFile(dir + "/cgroup.procs")
	if in := strings.Count(string(pids), "\n"); in < 2 {
		t.Errorf("in the scope of the machine are %q", pids)
	}
	systemd.runtime(at, "update", "--cpu-quota", "30000", id).Output()
	show := systemd.command("systemctl", "show", "-p", "CPUQuotaPerSecUSec,MemoryMax", "test-"+id+".scope").Output()
	if want := "CPUQuotaPerSecUSec=300ms"; !strings.Contains(show, want) || !strings.Contains(show, "MemoryMax="+strconv.FormatInt(readInt(t, dir+"/memory.max"), 10)) {
		t.Errorf("systemd knows of %s, want %s", show, want)
	}
	if out := systemd.runtime(at, "exec", id, "cat", "/proc/self/cgroup").Output(); out != "0::/\n" {
		t.Errorf("an exec is in %s", out)
	}
	systemd.runtime(at, "delete", "--force", id).Output()
	command.Eventually(t, "the scope is gone", func() bool {
		return systemd.command("systemctl", "status", "test-"+id+".scope").Run().Code == 4
	})
}
