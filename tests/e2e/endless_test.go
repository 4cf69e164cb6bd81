package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/microvm/microvm/tests/command"
	"github.com/microvm/microvm/tests/inventory"
)

// TestEndlessOutputIsHeldUp has a container write for ever, while nobody reads: the
// host's processes keep none of it, and the container can be killed once nobody ever will.
func TestEndlessOutputIsHeldUp(t *testing.T) {
	s := newSite(t)
	b := s.bundle(sh("touch /up; cat /dev/zero"))
	ctx, cancel := context.WithTimeout(context.Background(), command.Patience)
	defer cancel()
	id := s.name()
	cmd := s.command("run", "--bundle", b.dir, id).Exec(ctx)
	unread, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	command.Eventually(t, "the container is up", func() bool { _, err := os.Stat(b.rootfs("up")); return err == nil })
	time.Sleep(time.Second) // what may be under way fills up
	before := ownMemory(t)
	time.Sleep(4 * time.Second) // a leak would take some hundred megabytes
	for pid, was := range before {
		if now := anonymousKiB(pid); now > was+8<<10 {
			t.Errorf("process %d has grown from %d to %d KiB", pid, was, now)
		}
	}
	s.command("kill", id, "KILL").Output()
	unread.Close() // the command would wait for who reads the rest
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 137 {
		t.Errorf("%v", err)
	}
}

// ownMemory is what each process of the runtime has of its own, in KiB.
func ownMemory(t *testing.T) map[int]int {
	t.Helper()
	all := map[int]int{}
	for _, pid := range inventory.Descendants("microvm-") {
		all[pid] = anonymousKiB(pid)
	}
	if len(all) < 2 {
		t.Fatalf("no monitor and VM process: %v", all)
	}
	return all
}

// anonymousKiB is 0 for a process that is gone.
func anonymousKiB(pid int) (kib int) {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, rest, _ := strings.Cut(string(status), "RssAnon:")
	_, _ = fmt.Sscan(rest, &kib)
	return kib
}
