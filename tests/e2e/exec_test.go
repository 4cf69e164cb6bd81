package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/tests/lab/labtest"
)

func TestExec(t *testing.T) {
	s := newSite(t)
	id, _, _ := s.detached(s.bundle(sh("echo mark > /tmp/mark; sleep 1000; true")))
	s.waitStatus(id, "running")

	o := s.command("exec", "--env", "FOO=bar", "--cwd", "/tmp", "--user", "7:8", id, "/bin/sh", "-c", "echo $FOO $(pwd) $(id -u):$(id -g) $(cat mark); echo oops >&2; exit 4").Run()
	if o.Code != 4 || o.Stdout != "bar /tmp 7:8 mark\n" || o.Stderr != "oops\n" {
		t.Errorf("%v", o)
	}
	if o := s.command("exec", id, "cat").Input(strings.NewReader("through exec")).Run(); o.Code != 0 || o.Stdout != "through exec" {
		t.Errorf("stdin: %v", o)
	}
	if o := s.command("exec", id, "sh", "-c", "kill -9 $$").Run(); o.Code != 137 {
		t.Errorf("killed: %v", o)
	}
	// The namespaces are the container's.
	if o := s.command("exec", id, "sh", "-c", "ps | grep -c 'sleep 1000'").Run(); o.Code != 0 {
		t.Errorf("ps: %v", o)
	}
	process := specs.Process{Args: []string{"/bin/sh", "-c", "echo from file $(pwd)"}, Cwd: "/var", Env: []string{"PATH=/bin"}}
	if o := s.command("exec", "--process", processFile(t, process), id).Run(); o.Code != 0 || o.Stdout != "from file /var\n" {
		t.Errorf("--process: %v", o)
	}
}

// TestExecInASubCgroup has a container divide its cgroup, which then can't have
// processes itself.
func TestExecInASubCgroup(t *testing.T) {
	labtest.SameOnBoth(t)
	s := newSite(t)
	id, _, _ := s.detached(s.bundle(sh("sleep 1000; true"), func(spec *specs.Spec) {
		for i := range spec.Mounts {
			if m := &spec.Mounts[i]; m.Destination == "/sys/fs/cgroup" {
				m.Options = []string{"nosuid", "noexec", "nodev"}
			}
		}
	}))
	s.waitStatus(id, "running")
	s.command("exec", id, "sh", "-ec", `cd /sys/fs/cgroup; mkdir init other; echo 1 > init/cgroup.procs
		for p in $(cat cgroup.procs); do echo $p > init/cgroup.procs || :; done; echo +memory > cgroup.subtree_control`).Output()
	for _, c := range []struct {
		flags  []string
		stdout string
		stderr string
	}{
		{nil, "0::/init\n", ""},
		{[]string{"--cgroup", "other"}, "0::/other\n", ""},
		{[]string{"--cgroup", "/"}, "", "resource busy"},
		{[]string{"--cgroup", "missing"}, "", "no such file or directory"},
		{[]string{"--cgroup", ".."}, "", "bad sub cgroup path"},
		{[]string{"--cgroup", "memory:other"}, "", "cgroup v2"},
	} {
		o := s.command(slices.Concat([]string{"exec"}, c.flags, []string{id, "cat", "/proc/self/cgroup"})...).Run()
		if o.Stdout != c.stdout || !strings.Contains(o.Stderr, c.stderr) || (o.Code == 0) != (c.stderr == "") {
			t.Errorf("%v: %v", c.flags, o)
		}
	}
}

func TestExecOfWhatCannotRun(t *testing.T) {
	labtest.SameOnBoth(t)
	s := newSite(t)
	id, _, _ := s.detached(s.bundle(sh("touch /tmp/plain; sleep 1000; true")))
	s.waitStatus(id, "running")
	for _, c := range []struct {
		program, want string
		code          int
	}{
		{"missing-program", "executable file not found in $PATH", 127},
		{"/no/such/file", "no such file or directory", 127},
		{"/tmp/plain", "permission denied", 126},
	} {
		if o := s.command("exec", id, c.program).Run(); o.Code != c.code || !strings.Contains(o.Stderr, c.want) {
			t.Errorf("%s: want code %d and %q, %v", c.program, c.code, c.want, o)
		}
	}
}

func TestExecDetachedWithPidFile(t *testing.T) {
	s := newSite(t)
	b := s.bundle(sh("sleep 1000; true"))
	id, _, _ := s.detached(b)
	stdout := filepath.Join(b.dir, "exec-out")
	pid := s.launch(stdout, "exec", "--detach", "--pid-file", filepath.Join(b.dir, "exec-pid"), id, "/bin/sh", "-c", "sleep 0.5; echo later; exit 6")
	if code := waitPid(t, pid); code != 6 {
		t.Errorf("exit code %d, want 6", code)
	}
	if out, _ := os.ReadFile(stdout); string(out) != "later\n" {
		t.Errorf("output %q", out)
	}
}

// TestPidfds kills a container and an exec through the descriptors that come
// for --pidfd-socket.
func TestPidfds(t *testing.T) {
	labtest.SameOnBoth(t)
	s := newSite(t)
	b := s.bundle(sh("sleep 1000"))
	id := s.name()
	kill := func(receive func() (int, string), want string, signal unix.Signal) {
		t.Helper()
		fd, message := receive()
		defer unix.Close(fd)
		if message != want {
			t.Errorf("message %q", message)
		}
		if err := unix.PidfdSendSignal(fd, signal, nil, 0); err != nil {
			t.Error(err)
		}
	}
	path, receive := descriptorSocket(t)
	pidFile := filepath.Join(b.dir, "pid")
	pid := s.launch(filepath.Join(b.dir, "stdout"), "run", "--detach", "--bundle", b.dir, "--pid-file", pidFile, "--pidfd-socket", path, id)
	execPath, execReceive := descriptorSocket(t)
	execPID := s.launch(filepath.Join(b.dir, "exec-out"), "exec", "--detach", "--pid-file", pidFile, "--pidfd-socket", execPath, id, "sh", "-c", "trap 'exit 5' USR1; while :; do sleep 0.1; done")
	time.Sleep(time.Second) // the trap is set
	kill(execReceive, "setns", unix.SIGUSR1)
	if code := waitPid(t, execPID); code != 5 {
		t.Errorf("exec: exit code %d", code)
	}
	// Without anybody to take the descriptor, there is no process.
	o := s.command("exec", "--detach", "--pidfd-socket", "/no/such/socket", id, "sleep", "2000").Run()
	if o.Code != 255 || !strings.Contains(o.Stderr, "/no/such/socket") {
		t.Error(o)
	}
	if o := s.command("exec", id, "sh", "-c", "ps | grep -c 'sleep 200[0]'").Run(); o.Stdout != "0\n" {
		t.Errorf("it runs: %v", o)
	}
	kill(receive, "standard", unix.SIGKILL)
	s.waitStatus(id, "stopped")
	waitPid(t, pid)
}

func TestExecWithTerminal(t *testing.T) {
	s := newSite(t)
	b := s.bundle(sh("sleep 1000; true"))
	id, _, _ := s.detached(b)
	path, receive := consoleSocket(t)
	pidFile := filepath.Join(b.dir, "exec-pid")
	s.command("exec", "--detach", "--tty", "--console-socket", path, "--pid-file", pidFile, id,
		"/bin/sh", "-c", "tty >/dev/null && echo is a terminal; read x; echo got $x; exit 2").Output()
	master := receive()
	expect(t, master, "is a terminal")
	fmt.Fprint(master, "input\n")
	expect(t, master, "got input")
	if code := waitPid(t, readPid(t, pidFile)); code != 2 {
		t.Errorf("exit code %d, want 2", code)
	}
}

// TestWarningsFromTheGuest asks for capabilities that cannot be: runc warns.
func TestWarningsFromTheGuest(t *testing.T) {
	labtest.SameOnBoth(t)
	s := newSite(t)
	b := s.bundle(sh("sleep 1000"), func(spec *specs.Spec) {
		spec.Process.Capabilities.Bounding = append(spec.Process.Capabilities.Bounding, "CAP_NONSENSE")
	})
	log := filepath.Join(b.dir, "log")
	id := s.name()
	s.launch(filepath.Join(b.dir, "stdout"), "--log", log, "create", "--bundle", b.dir, id)
	warned := func(text string) {
		t.Helper()
		if got := read(t, log); strings.Count(got, "level=warning") != 1 || !strings.Contains(got, text) || !strings.Contains(got, "container="+id) {
			t.Errorf("want %q: %s", text, got)
		}
		if err := os.Truncate(log, 0); err != nil {
			t.Fatal(err)
		}
	}
	warned("CAP_NONSENSE")
	s.command("start", id).Output()
	s.command("--log", log, "exec", "--cap", "CAP_KILL", id, "true").Output()
	warned("CAP_NONSENSE")
	s.command("--log", log, "exec", "--process", processFile(t, specs.Process{Cwd: "/", Args: []string{"/bin/true"}, Capabilities: &specs.LinuxCapabilities{}}), id).Output()
	if got := read(t, log); got != "" {
		t.Errorf("warned of nothing: %s", got)
	}
}

func processFile(t *testing.T, p specs.Process) string {
	t.Helper()
	data, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "process.json")
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestManyExecs(t *testing.T) {
	s := newSite(t)
	id, _, _ := s.detached(s.bundle(sh("sleep 1000; true")))
	s.waitStatus(id, "running")
	const n = 10
	results := make(chan string, n)
	for i := range n {
		go func() {
			o := s.command("exec", id, "sh", "-c", fmt.Sprintf("head -c 100000 /dev/zero | tr '\\0' x; exit %d", i)).Run()
			if o.Code != i || len(o.Stdout) != 100000 {
				results <- fmt.Sprintf("exec %d: exit code %d, %d bytes, stderr %s", i, o.Code, len(o.Stdout), o.Stderr)
				return
			}
			results <- ""
		}()
	}
	for range n {
		if bad := <-results; bad != "" {
			t.Error(bad)
		}
	}
}
