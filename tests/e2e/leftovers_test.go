package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/tests/command"
	"github.com/microvm/microvm/tests/inventory"
)

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
				found := inventory.ProcessesOf(pid, victim)
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
			if o := s.command("exec", id, "true").Run(); o.Code == 0 || !strings.Contains(o.Stderr, "not running") {
				t.Errorf("exec: %v", o)
			}
			s.command("delete", id).Output()
			// The same id works again.
			if o := s.command("run", "--bundle", s.bundle(sh("echo again")).dir, id).Run(); o.Code != 0 || o.Stdout != "again\n" {
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
		cmd := s.command("run", "--bundle", b.dir, id).Exec(t.Context())
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		command.Eventually(t, "the start is under way", func() bool {
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
		s.command("delete", "--force", id).Output()
		if o := s.command("state", id).Run(); o.Code == 0 {
			t.Errorf("state after delete --force: %v", o)
		}
	}
}

func TestFailedCreateLeavesNothing(t *testing.T) {
	s := newSite(t)
	id := s.name()
	if o := s.command("create", "--bundle", s.bundle([]string{"missing-program"}).dir, id).Run(); o.Code == 0 {
		t.Fatalf("%v", o)
	}
	if _, err := os.Stat(filepath.Join(s.root, id)); !os.IsNotExist(err) {
		t.Errorf("state directory: %v", err)
	}
}
