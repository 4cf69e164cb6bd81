package process

import (
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// orphan leaves an ended process to PID 1, which is the test, and returns its
// pid.
func orphan(t *testing.T) int {
	t.Helper()
	out, err := exec.Command("/bin/busybox", "sh", "-c", "/bin/busybox true & echo $!").Output()
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// gone waits until there is no process pid, not even as a zombie.
func gone(pid int) bool {
	for range 500 {
		if _, err := os.Stat("/proc/" + strconv.Itoa(pid)); err != nil {
			return true
		}
		time.Sleep(10 * time.Millisecond)
	}
	return false
}

func TestReaperTakesOrphans(t *testing.T) {
	needRoot(t)
	r := NewReaper()
	defer r.Close()
	release := r.hold()
	pid := orphan(t)
	release()
	if !gone(pid) {
		t.Errorf("orphan %d was not reaped", pid)
	}
}

func TestReaperLeavesOwned(t *testing.T) {
	needRoot(t)
	r := NewReaper()
	defer r.Close()
	release := r.hold()
	cmd := exec.Command("/bin/busybox", "sh", "-c", "read x; exit 5")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r.own(cmd.Process.Pid)
	pid := orphan(t)
	release()
	io.WriteString(in, "\n")
	time.Sleep(5 * retryAfter) // the owned child is a zombie meanwhile
	err = cmd.Wait()
	r.disown(cmd.Process.Pid)
	if cmd.ProcessState.ExitCode() != 5 {
		t.Errorf("owner got %v", err)
	}
	if !gone(pid) {
		t.Errorf("orphan %d was not reaped", pid)
	}
}

func TestOrphansOfSharedPidNamespace(t *testing.T) {
	w := newWorld(t)
	spec := w.spec("sh", "-c", "sh -c 'sleep 1000 & echo $!'; read x")
	spec.Linux.Namespaces = spec.Linux.Namespaces[1:]
	s := w.open(false)
	w.create("c", spec, s.Stdio)
	w.start("c", "")
	var line [8]byte
	n, err := s.out.Read(line[:])
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(line[:n])))
	if err != nil {
		t.Fatal(err)
	}
	s.in.CloseWrite()
	if code := w.wait("c", ""); code != 1 {
		t.Errorf("exit code %d", code)
	}
	w.remove("c")
	if !gone(pid) {
		t.Errorf("orphan %d is still there", pid)
	}
}
