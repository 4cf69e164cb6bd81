package shim

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/tests/command"
)

// loop says when it runs, and ends with 3 when it is asked to.
const loop = `trap 'exit 3' TERM; echo up >/tmp/up; while :; do sleep 0.1; done`

// loops runs loop and waits until it listens to signals.
func (s *site) loops(flags ...string) (id string) {
	s.t.Helper()
	id = s.detached(append(flags, "--", "sh", "-c", loop)...)
	command.Eventually(s.t, "the loop runs", func() bool { return s.exec(id, "--", "test", "-e", "/tmp/up").Run().Code == 0 })
	return id
}

func TestDetachedLife(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		id := s.loops()
		pid, status := s.task(id)
		if status != "RUNNING" {
			t.Errorf("status %s", status)
		}
		// The pid is the machine's, and the only one that the host knows.
		if exe, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/exe"); err != nil || filepath.Base(exe) != "microvm-vmm" {
			t.Errorf("process %d is %s, %v", pid, exe, err)
		}
		if got := strings.Fields(s.do("tasks", "ps", id).Output()); len(got) < 3 || got[2] != strconv.Itoa(pid) {
			t.Errorf("ps: %q, pid %d", got, pid)
		}
		s.exec(id, "--cwd", "/var", "--", "sh", "-c", "pwd; exit 9").Wants(9, "/var")
		s.pausesAndResumes(id)
		if o := s.do("tasks", "delete", id).Run(); o.Code == 0 {
			t.Errorf("delete of a running task: %v", o)
		}
		s.do("tasks", "kill", "--signal", "TERM", id).Output()
		s.waitStatus(id, "STOPPED")
		if o := s.exec(id, "--", "true").Run(); o.Code == 0 {
			t.Errorf("exec in a stopped task: %v", o)
		}
		s.delete(id, 3)
		if _, status := s.task(id); status != "" {
			t.Errorf("status after delete: %s", status)
		}
		// The same container again.
		s.do("tasks", "start", "--detach", "--fifo-dir", s.dir, id).Output()
		s.waitStatus(id, "RUNNING")
		s.do("tasks", "pause", id).Output()
		s.delete(id, 137, "--force")
	})
}

// sized is what a shell is told to say when its terminal has a size. ctr sets
// the size when the program runs already.
func sized(size string) string {
	return "until test \"$(stty size 2>/dev/null)\" = '" + size + "'; do sleep 0.1; done; echo si''zed\n"
}

func TestTerminal(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		screen := s.run(s.container(), "--rm", "--tty", "--", "sh").Terminal(101, 33)
		screen.Say("tty | sed s/^/is:/\n")
		screen.See("is:/dev/pts/0")
		screen.Say(sized("33 101"))
		screen.See("sized")
		screen.Resize(55, 44)
		screen.Say(sized("44 55"))
		screen.See("sized")
		screen.Say("exit 5\n")
		screen.Close(5)
	})
}

// TestExec runs more programs in a container, whose root file system is read-only.
func TestExec(t *testing.T) {
	data, sum := input()
	each(t, func(t *testing.T, s *site) {
		id := s.detached("--read-only", "--", "sleep", "1000")
		s.exec(id, "--", "sh", "-c", "echo no 2>/dev/null >/file || echo refused").Wants(0, "refused")
		s.exec(id, "--", "cat").Input(strings.NewReader("hello\n")).Wants(0, "hello")
		s.exec(id, "--", "sha256sum").Input(bytes.NewReader(data)).Wants(0, sum)
		if o := s.exec(id, "--", "nosuch").Run(); o.Code == 0 || !strings.Contains(o.Stderr, missing) {
			t.Errorf("%v", o)
		}
		screen := s.exec(id, "--tty", "--", "sh").Terminal(80, 24)
		screen.Say("tty | sed s/^/is:/\n")
		screen.See("is:/dev/pts/0")
		screen.Say(sized("24 80"))
		screen.See("sized")
		screen.Say("exit 6\n")
		screen.Close(6)
	})
}

// pausesAndResumes a task that runs.
func (s *site) pausesAndResumes(id string) {
	t := s.t
	t.Helper()
	s.do("tasks", "pause", id).Output()
	if _, status := s.task(id); status != "PAUSED" {
		t.Errorf("status %s", status)
	}
	if o := s.exec(id, "--", "true").Run(); o.Code == 0 || !strings.Contains(o.Stderr, "paused") {
		t.Errorf("exec in a paused task: %v", o)
	}
	s.do("tasks", "resume", id).Output()
	if _, status := s.task(id); status != "RUNNING" {
		t.Errorf("status %s", status)
	}
	s.exec(id, "--", "echo", "awake").Wants(0, "awake")
}

// cgroups is a mount that shows a container its limits.
const cgroups = "type=cgroup,src=cgroup,dst=/sys/fs/cgroup,options=ro"

// TestPlaces finds the machine's process in the network namespace that the
// container's configuration names.
func TestPlaces(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		path := "/run/netns/" + newNamespace(t)
		pid, _ := s.task(s.detached("--with-ns", "network:"+path, "--", "sleep", "1000"))
		if same, err := sameFile(path, "/proc/"+strconv.Itoa(pid)+"/ns/net"); err != nil || !same {
			t.Errorf("network namespace by path: %v, %v", same, err)
		}
	})
}

// isInPlace checks that the machine's process is in the cgroup of the container,
// and in a network namespace of its own.
func (s *site) isInPlace(id string) {
	t := s.t
	t.Helper()
	pid, _ := s.task(id)
	if same, err := sameFile("/proc/thread-self/ns/net", "/proc/"+strconv.Itoa(pid)+"/ns/net"); err != nil || same {
		t.Errorf("network namespace of its own: %v, %v", same, err)
	}
	cgroup, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil || !strings.Contains(string(cgroup), "/"+namespace+"/"+id+"\n") {
		t.Errorf("cgroup: %s, %v", cgroup, err)
	}
}

func sameFile(a, b string) (bool, error) {
	var sa, sb unix.Stat_t
	if err := unix.Stat(a, &sa); err != nil {
		return false, err
	}
	if err := unix.Stat(b, &sb); err != nil {
		return false, err
	}
	return sa.Dev == sb.Dev && sa.Ino == sb.Ino, nil
}
