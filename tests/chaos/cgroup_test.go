package chaos

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// squeeze is a cgroup of the test's with one limit.
type squeeze struct {
	dir    string
	limit  string // the file
	always string // what is in it without a limit
}

// limits are the files by controller, of cgroup v1 and v2.
var limits = map[string][2]string{"pids": {"pids.max", "pids.max"}, "memory": {"memory.limit_in_bytes", "memory.max"}}

// newSqueeze makes one for a controller, or skips the round where it can't be had. It is
// removed after the round.
func newSqueeze(t *testing.T, controller string) *squeeze {
	t.Helper()
	const root = "/sys/fs/cgroup"
	name := fmt.Sprintf("chaos-%d-%d", os.Getpid(), serial.Add(1))
	s := &squeeze{dir: filepath.Join(root, controller, name), always: "max"}
	s.limit = filepath.Join(s.dir, limits[controller][0])
	if controller == "memory" {
		s.always = "-1"
	}
	if _, err := os.Stat(filepath.Join(root, "cgroup.controllers")); err == nil {
		s.dir, s.always = filepath.Join(root, name), "max"
		s.limit = filepath.Join(s.dir, limits[controller][1])
		_ = os.WriteFile(filepath.Join(root, "cgroup.subtree_control"), []byte("+"+controller), 0) // the limit's file tells
	}
	if err := os.Mkdir(s.dir, 0o755); err != nil {
		t.Skipf("needs cgroups with %s to write to: %v", controller, err)
	}
	t.Cleanup(func() { removeCgroup(t, s.dir) })
	return s
}

func (s *squeeze) procs() string { return filepath.Join(s.dir, "cgroup.procs") }

func (s *squeeze) set(t *testing.T, n int) {
	t.Helper()
	if err := os.WriteFile(s.limit, []byte(strconv.Itoa(n)), 0); err != nil {
		t.Error(err)
	}
}

func (s *squeeze) release(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(s.limit, []byte(s.always), 0); err != nil {
		t.Error(err)
	}
}

// take puts a process in, and says whether it was there to be.
func (s *squeeze) take(pid int) bool {
	return os.WriteFile(s.procs(), []byte(strconv.Itoa(pid)), 0) == nil
}

// removeCgroup waits for what is on its way out.
func removeCgroup(t *testing.T, dir string) {
	var err error
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if err = unix.Rmdir(dir); err == nil {
			return
		}
	}
	t.Errorf("left behind in %s: %v", dir, err)
}
