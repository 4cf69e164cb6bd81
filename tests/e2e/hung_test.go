package e2e

import (
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/tests/inventory"
	"github.com/microvm/microvm/tests/lab/labtest"
)

// TestHungMachine stops a machine's process. Every call then ends with the reason,
// works again when the machine does, and SIGKILL works all the time.
func TestHungMachine(t *testing.T) {
	labtest.SameOnBoth(t)
	s := newSite(t)
	id, pid, _ := s.detached(s.bundle(sh("sleep 1000; true")))
	s.waitStatus(id, "running")
	vmms := inventory.ProcessesOf(pid, "microvm-vmm")
	if len(vmms) != 1 {
		t.Fatalf("microvm-vmm below %d: %v", pid, vmms)
	}
	signal := func(sig unix.Signal) {
		t.Helper()
		if err := unix.Kill(vmms[0], sig); err != nil {
			t.Fatal(err)
		}
	}
	calls := [][]string{{"exec", id, "true"}, {"events", "--stats", id}, {"update", "--cpu-share", "512", id}, {"ps", id}, {"kill", id, "USR1"}, {"pause", id}}
	signal(unix.SIGSTOP)
	began := time.Now()
	var wg sync.WaitGroup
	for _, args := range calls {
		wg.Go(func() {
			o := s.command(args...).Run()
			if o.Code == 0 || !strings.Contains(o.Stderr, "the guest does not answer") {
				t.Errorf("%v: %v", args, o)
			}
		})
	}
	wg.Wait()
	if took := time.Since(began); took > time.Minute {
		t.Errorf("it took %v", took)
	}
	signal(unix.SIGCONT)
	if o := s.command("exec", id, "echo", "again").Run(); o.Stdout != "again\n" {
		t.Errorf("exec: %v", o)
	}
	signal(unix.SIGSTOP)
	s.command("kill", id, "KILL").Output()
	if code := waitPid(t, pid); code == 0 {
		t.Error("exit code 0 after a kill")
	}
	s.command("delete", id).Output()
}
