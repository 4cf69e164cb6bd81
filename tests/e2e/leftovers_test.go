package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// processesOf finds the live processes whose command name starts with name and
// that descend from pid.
func processesOf(t *testing.T, pid int, name string) []int {
	t.Helper()
	var found []int
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		var p int
		fmt.Sscanf(filepath.Base(filepath.Dir(path)), "%d", &p)
		comm, ppid := commAndParent(path)
		if strings.HasPrefix(comm, name) && (ppid == pid || parentOf(ppid) == pid) {
			found = append(found, p)
		}
	}
	return found
}

func commAndParent(stat string) (comm string, ppid int) {
	data, err := os.ReadFile(stat)
	text := string(data)
	open, end := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	if err != nil || open < 0 || end < open {
		return "", 0
	}
	var state string
	fmt.Sscan(text[end+1:], &state, &ppid)
	return text[open+1 : end], ppid
}

func parentOf(pid int) int {
	_, ppid := commAndParent(fmt.Sprintf("/proc/%d/stat", pid))
	return ppid
}

func TestKilledProcessesLeaveNothing(t *testing.T) {
	victims := []string{"monitor", "microvm-vmm"}
	if machine == "software" {
		victims = append(victims, "qemu-system")
	}
	for _, victim := range victims {
		t.Run(victim, func(t *testing.T) {
			s := newSite(t)
			b := s.bundle(sh("sleep 1000; true"))
			id, pid, _ := s.detached(b)
			s.waitStatus(id, "running")
			target := pid
			if victim != "monitor" {
				found := processesOf(t, pid, victim)
				if len(found) != 1 {
					t.Fatalf("%s below %d: %v", victim, pid, found)
				}
				target = found[0]
			}
			if err := unix.Kill(target, unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			if code := waitPid(t, pid); code == 0 {
				t.Error("exit code 0 after a kill")
			}
			s.waitStatus(id, "stopped")
			if o := s.command("exec", id, "true").run(); o.code == 0 || !strings.Contains(o.stderr, "not running") {
				t.Errorf("exec: %v", o)
			}
			s.command("delete", id).mustRun()
			// The same id works again.
			if o := s.command("run", "--bundle", s.bundle(sh("echo again")).dir, id).run(); o.code != 0 || o.stdout != "again\n" {
				t.Errorf("run after the kill: %v", o)
			}
		})
	}
}

func TestCreateKilledHalfWay(t *testing.T) {
	s := newSite(t)
	b := s.bundle(sh("true"))
	for i := range 3 {
		id := s.name()
		cmd := s.command("run", "--bundle", b.dir, id).exec(t.Context())
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the start is under way", func() bool {
			_, err := os.Stat(filepath.Join(s.root, id))
			return err == nil
		})
		for range i * 20 {
			unix.Nanosleep(&unix.Timespec{Nsec: 10e6}, nil)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		cmd.Wait()
		s.command("delete", "--force", id).mustRun()
		if o := s.command("state", id).run(); o.code == 0 {
			t.Errorf("state after delete --force: %v", o)
		}
	}
}

func TestFailedCreateLeavesNothing(t *testing.T) {
	s := newSite(t)
	id := s.name()
	if o := s.command("create", "--bundle", s.bundle([]string{"missing-program"}).dir, id).run(); o.code == 0 {
		t.Fatalf("%v", o)
	}
	if _, err := os.Stat(filepath.Join(s.root, id)); !os.IsNotExist(err) {
		t.Errorf("state directory: %v", err)
	}
}
