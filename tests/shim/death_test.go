package shim

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	apievents "github.com/containerd/containerd/api/events"
	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/tests/command"
	"github.com/microvm/microvm/tests/inventory"
)

// TestKilledShim leaves nothing, not even until the container is removed.
func TestKilledShim(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		before := inventory.Take(t, s.daemon.Dir)
		id := s.detached("--", "sleep", "1000")
		pid, _ := s.task(id)
		socket := s.shimSocket(id)
		if err := unix.Kill(s.shimOf(pid), unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		command.Eventually(t, "containerd has cleaned up", func() bool {
			_, err := os.Stat(filepath.Join(s.state(), "io.containerd.runtime.v2.task", namespace, id))
			return os.IsNotExist(err)
		})
		inventory.Compare(t, before)
		s.checkLeftovers()
		if _, err := os.Stat(socket); !os.IsNotExist(err) {
			t.Errorf("left behind: %s, %v", socket, err)
		}
		// The same container again.
		s.do("tasks", "start", "--detach", "--fifo-dir", s.dir, id).Output()
		s.exec(id, "--", "echo", "again").Wants(0, "again")
	})
}

// shimSocket is the path of the socket of a container's shim.
func (s *site) shimSocket(id string) string {
	s.t.Helper()
	address, err := os.ReadFile(filepath.Join(s.state(), "io.containerd.runtime.v2.task", namespace, id, "address"))
	if err != nil {
		s.t.Fatal(err)
	}
	path := strings.TrimPrefix(string(address), "unix://")
	if _, err := os.Stat(path); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// TestKilledMachine is told like a process that was killed, with the reason.
func TestKilledMachine(t *testing.T) {
	victims := []string{"microvm-vmm"}
	if machine == "software" {
		victims = append(victims, "qemu-system")
	}
	for _, victim := range victims {
		t.Run(victim, func(t *testing.T) {
			each(t, func(t *testing.T, s *site) {
				id := s.detached("--", "sleep", "1000")
				pid, _ := s.task(id)
				found := inventory.ProcessesOf(s.shimOf(pid), victim)
				if len(found) != 1 {
					t.Fatalf("%s of %s: %v", victim, id, found)
				}
				next := s.subscribe()
				killed := time.Now()
				if err := unix.Kill(found[0], unix.SIGKILL); err != nil {
					t.Fatal(err)
				}
				if e := expect[*apievents.TaskExit](t, next); e.GetContainerID() != id || e.GetExitStatus() != 137 {
					t.Errorf("exit: %v", e)
				}
				if took := time.Since(killed); took > time.Second {
					t.Errorf("the exit was told after %v", took)
				}
				s.waitStatus(id, "STOPPED")
				if o := s.exec(id, "--", "true").Run(); o.Code == 0 {
					t.Errorf("exec: %v", o)
				}
				s.delete(id, 137)
				if text := s.Log(s.logged); !strings.Contains(text, "killed") {
					t.Errorf("the log does not say why")
				}
			})
		})
	}
}

// TestHungMachine is killed with its container.
func TestHungMachine(t *testing.T) {
	last(t, func(t *testing.T, s *site) {
		id := s.detached("--", "sleep", "1000")
		pid, _ := s.task(id)
		// The machine's process has the guest's way to the host.
		if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for _, c := range []*command.Command{s.do("tasks", "kill", "--signal", "TERM", id), s.do("tasks", "pause", id), s.exec(id, "--", "true")} {
			wg.Go(func() {
				if o := c.Run(); o.Code == 0 || !strings.Contains(o.Stderr, "does not answer") {
					t.Errorf("a guest that hangs: %v", o)
				}
			})
		}
		wg.Wait()
		s.do("tasks", "kill", "--signal", "KILL", id).Output()
		s.waitStatus(id, "STOPPED")
		s.delete(id, 137)
	})
}

// TestRestartedDaemon finds its containers again.
func TestRestartedDaemon(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		id := s.loops()
		pid, _ := s.task(id)
		if err := s.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		if again, status := s.task(id); again != pid || status != "RUNNING" {
			t.Errorf("pid %d, not %d, %s", again, pid, status)
		}
		s.exec(id, "--", "echo", "here").Wants(0, "here")
		s.do("tasks", "kill", id).Output()
		s.waitStatus(id, "STOPPED")
		s.delete(id, 3)
	})
}

// TestStarvedMachine is told as out of memory when it was the host's kernel that
// killed it for its cgroup's limit.
func TestStarvedMachine(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		next := s.subscribe()
		const hungry = "until test -e /tmp/go; do sleep 0.1; done; exec tail /dev/zero"
		id := s.detached("--", "sh", "-c", hungry)
		expect[*apievents.TaskCreate](t, next)
		expect[*apievents.TaskStart](t, next)
		pid, _ := s.task(id)
		limitMemory(t, pid, 100<<20)
		touched := make(chan command.Outcome, 1)
		go func() { touched <- s.exec(id, "--", "touch", "/tmp/go").Run() }() // it may go down with the machine
		oom := false
		for !oom {
			switch e := next().(type) {
			case *apievents.TaskOOM:
				oom = e.GetContainerID() == id
			case *apievents.TaskExit:
				if e.GetID() == id {
					t.Fatal("an exit before the lack of memory was told")
				}
			}
		}
		<-touched
		s.waitStatus(id, "STOPPED")
		s.delete(id, 137)
		if text := s.Log(s.logged); !strings.Contains(text, "the host's kernel killed the machine") {
			t.Error("the log does not say why")
		}
	})
}

// limitMemory limits the cgroup of a process, which has to have room for what it
// takes now.
func limitMemory(t *testing.T, pid int, more uint64) {
	t.Helper()
	dir := memoryCgroup(t, pid)
	for usage, limit := range map[string]string{"memory.usage_in_bytes": "memory.limit_in_bytes", "memory.current": "memory.max"} {
		data, err := os.ReadFile(filepath.Join(dir, usage))
		if err != nil {
			continue // the other version
		}
		used, err := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, limit), []byte(strconv.FormatUint(used+more, 10)), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatalf("%s has no memory controller", dir)
}

func memoryCgroup(t *testing.T, pid int) string {
	t.Helper()
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	unified := ""
	for line := range strings.Lines(string(data)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if slices.Contains(strings.Split(f[1], ","), "memory") {
			return "/sys/fs/cgroup/memory" + f[2]
		}
		if f[0] == "0" {
			unified = "/sys/fs/cgroup" + f[2]
		}
	}
	return unified
}
