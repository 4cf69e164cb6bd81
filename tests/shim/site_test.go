package shim

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/microvm/microvm/tests/command"
	"github.com/microvm/microvm/tests/inventory"
)

// site is one test with its daemon. Nothing of its containers may be left when
// it ends.
type site struct {
	*daemon
	t          *testing.T
	dir        string
	containers []string
	logged     int64 // of the daemon's log before the test
}

func newSite(t *testing.T, d *daemon) *site {
	t.Helper()
	s := &site{daemon: d, t: t, dir: t.TempDir(), logged: d.logSize()}
	before := inventory.Take(t, d.Dir)
	t.Cleanup(func() {
		s.removeAll()
		inventory.Compare(t, before)
		s.checkLeftovers()
		if t.Failed() {
			text := d.Log(s.logged)
			t.Logf("end of the log: %s", text[max(0, len(text)-8<<10):])
		}
	})
	return s
}

// removeAll removes the containers that the test has left.
func (s *site) removeAll() {
	for _, id := range s.containers {
		if s.ctr("containers", "info", id).Run() != nil {
			continue
		}
		_ = s.ctr("tasks", "delete", "--force", id).Run() // it may have none
		if said, err := s.ctr("containers", "delete", id).CombinedOutput(); err != nil {
			s.t.Errorf("delete container %s: %v: %s", id, err, said)
		}
	}
}

// checkLeftovers looks for files and cgroups named after a container.
func (s *site) checkLeftovers() {
	for _, id := range s.containers {
		for _, pattern := range []string{
			filepath.Join(s.state(), "*", namespace, id), filepath.Join(s.root(), "*task*", namespace, id),
			"/sys/fs/cgroup/" + namespace + "/" + id, "/sys/fs/cgroup/*/" + namespace + "/" + id,
		} {
			if left, _ := filepath.Glob(pattern); len(left) > 0 {
				s.t.Errorf("left behind: %v", left)
			}
		}
	}
}

func (d *daemon) root() string { return filepath.Join(d.Dir, "root") }

// do is a call of ctr.
func (s *site) do(args ...string) *command.Command {
	return command.New(s.t, s.ctrArgs(args...)...)
}

// container names a new container.
func (s *site) container() string {
	id := newID(s.t)
	s.containers = append(s.containers, id)
	return id
}

// run is a call of `ctr run`: flags, "--", the program with its arguments.
func (s *site) run(id string, args ...string) *command.Command {
	flags, program := cut(args)
	all := append([]string{"run", "--runtime", runtime, "--annotation", "io.microvm.machine=" + machine, "--fifo-dir", s.dir}, flags...)
	return s.do(append(append(all, image, id), program...)...)
}

func cut(args []string) (before, after []string) {
	i := slices.Index(args, "--")
	return args[:i], args[i+1:]
}

// exec is a call of `ctr tasks exec`, with the same arguments.
func (s *site) exec(id string, args ...string) *command.Command {
	flags, program := cut(args)
	name := "e" + strconv.Itoa(int(serial.Add(1)))
	all := append([]string{"tasks", "exec", "--exec-id", name, "--fifo-dir", s.dir}, flags...)
	return s.do(append(append(all, id), program...)...)
}

// detached runs a program in the background and returns the container's id.
func (s *site) detached(args ...string) (id string) {
	s.t.Helper()
	id = s.container()
	s.run(id, append([]string{"--detach"}, args...)...).Output()
	return id
}

// task is a line of `ctr tasks list`.
func (s *site) task(id string) (pid int, status string) {
	s.t.Helper()
	for line := range strings.Lines(s.do("tasks", "list").Output()) {
		f := strings.Fields(line)
		if len(f) != 3 || f[0] != id {
			continue
		}
		pid, err := strconv.Atoi(f[1])
		if err != nil {
			s.t.Fatalf("tasks list: %s", line)
		}
		return pid, f[2]
	}
	return 0, ""
}

// delete deletes a task that has ended with code.
func (s *site) delete(id string, code int, flags ...string) {
	s.t.Helper()
	o := s.do(append(append([]string{"tasks", "delete"}, flags...), id)...).Run()
	// ctr only says it.
	if said := strings.Contains(o.Stderr, "exit code "+strconv.Itoa(code)); o.Code != 0 || said != (code != 0) {
		s.t.Errorf("delete %s: %v\nwant that exit code to be %d", id, o, code)
	}
}

func (s *site) waitStatus(id, want string) {
	s.t.Helper()
	command.Eventually(s.t, id+" is "+want, func() bool {
		_, status := s.task(id)
		return status == want
	})
}

// shimOf is the pid of the shim whose machine is pid.
func (s *site) shimOf(pid int) int {
	s.t.Helper()
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		s.t.Fatal(err)
	}
	f := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	parent, err := strconv.Atoi(f[1])
	if err != nil {
		s.t.Fatalf("parent of %d: %v", pid, err)
	}
	return parent
}
