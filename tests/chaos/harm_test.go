package chaos

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/tests/command"
	"github.com/microvm/microvm/tests/inventory"
)

// harm is something bad that happens.
type harm struct {
	name string
	// deadly harm may end a container, fatal harm has to.
	deadly, fatal bool
	// before makes the call's world a bad one and returns what repairs it.
	before func(t *testing.T, random *rand.Rand, cmd *exec.Cmd) (repair func())
	// during happens in the middle of the call, which is process pid.
	during func(t *testing.T, random *rand.Rand, pid int)
	// leads are statuses that the harm may leave besides those.
	leads []string
	hit   bool // something happened
}

// signalled sends a signal to the processes that find returns, with SIGCONT
// after a SIGSTOP.
func signalled(name string, signal unix.Signal, fatal bool, find func(pid int) []int) *harm {
	h := &harm{name: fmt.Sprintf("%s to %s", unix.SignalName(signal), name), deadly: signal == unix.SIGKILL}
	h.fatal = fatal && h.deadly
	h.during = func(t *testing.T, random *rand.Rand, pid int) {
		pause := time.Duration(random.Int64N(int64(3 * time.Second)))
		var stopped []int
		for _, victim := range find(pid) {
			if unix.Kill(victim, signal) == nil {
				h.hit = true
				stopped = append(stopped, victim)
			}
		}
		if signal == unix.SIGSTOP && h.hit {
			time.Sleep(pause)
			for _, victim := range stopped {
				_ = unix.Kill(victim, unix.SIGCONT) // it may be gone
			}
		}
	}
	return h
}

// both are a kill and a stop.
func both(name string, fatal bool, find func(pid int) []int) []*harm {
	return []*harm{signalled(name, unix.SIGKILL, fatal, find), signalled(name, unix.SIGSTOP, fatal, find)}
}

// itself finds the call.
func itself(pid int) []int { return []int{pid} }

// named finds processes of the test's by their command, without the call's own.
func named(name string) func(int) []int {
	return func(call int) []int {
		return slices.DeleteFunc(inventory.Descendants(name), func(pid int) bool { return pid == call })
	}
}

// crash is a panic of the guest's kernel, which is also what an end of the agent
// is.
func crash(f front) *harm {
	h := &harm{name: "crash of the guest", deadly: true}
	h.during = func(t *testing.T, _ *rand.Rand, _ int) {
		h.hit = true // or so it may be, whatever is said
		cmd := f.exec("echo c >/proc/sysrq-trigger")
		hang := time.AfterFunc(command.Patience, func() {
			t.Errorf("%v hangs", cmd.Args)
			_ = cmd.Process.Kill()
		})
		defer hang.Stop()
		_ = cmd.Run()
	}
	return h
}

// fewDescriptors lets the call and what it starts have few descriptors.
func fewDescriptors() *harm {
	h := &harm{name: "few descriptors"}
	h.before = func(_ *testing.T, random *rand.Rand, cmd *exec.Cmd) func() {
		n := strconv.Itoa(3 + random.IntN(60))
		within(cmd, "prlimit", "--nofile="+n+":"+n)
		h.hit = true
		return func() {}
	}
	return h
}

// noMoreDescriptors lets processes that live already have hardly more descriptors than
// they have, until the call is over.
func noMoreDescriptors(name string, find func(pid int) []int) *harm {
	h := &harm{name: "no more descriptors for " + name}
	old := map[int]*unix.Rlimit{}
	h.before = func(*testing.T, *rand.Rand, *exec.Cmd) func() {
		return func() {
			for pid, limit := range old {
				_ = unix.Prlimit(pid, unix.RLIMIT_NOFILE, limit, nil) // it may be gone
			}
		}
	}
	h.during = func(_ *testing.T, random *rand.Rand, pid int) {
		for _, victim := range find(pid) {
			open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", victim))
			limit := new(unix.Rlimit)
			if err != nil || unix.Prlimit(victim, unix.RLIMIT_NOFILE, nil, limit) != nil {
				continue
			}
			few := unix.Rlimit{Cur: uint64(len(open) + random.IntN(6)), Max: limit.Max}
			if unix.Prlimit(victim, unix.RLIMIT_NOFILE, &few, nil) == nil {
				h.hit, old[victim] = true, limit
			}
		}
	}
	return h
}

// noMoreThreads puts processes that live already, with what they start, into a cgroup
// that has room for hardly more, until the call is over.
func noMoreThreads(name string, find func(pid int) []int) *harm {
	return squeezed("pids for "+name, "pids", find, func(random *rand.Rand, threads int) int { return threads + random.IntN(4) })
}

// noMoreMemory puts them into one that has room for hardly more of that: what they have
// already counts where they were.
func noMoreMemory(name string, find func(pid int) []int) *harm {
	return squeezed("memory for "+name, "memory", find, func(random *rand.Rand, _ int) int { return (1 + random.IntN(16)) << 20 })
}

// squeezed puts processes into a cgroup whose limit is made of the number of their
// threads. Go's runtime gives up without threads, and the kernel kills without memory.
func squeezed(what, controller string, find func(pid int) []int, limit func(random *rand.Rand, threads int) int) *harm {
	h := &harm{name: "no more " + what, deadly: true}
	var s *squeeze
	h.before = func(t *testing.T, _ *rand.Rand, _ *exec.Cmd) func() {
		s = newSqueeze(t, controller)
		return func() { s.release(t) }
	}
	h.during = func(t *testing.T, random *rand.Rand, pid int) {
		threads := 0
		for _, victim := range find(pid) {
			tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", victim))
			threads += len(tasks)
			h.hit = s.take(victim) || h.hit
		}
		s.set(t, limit(random, threads))
	}
	return h
}

// within makes a call one of another program, which gets it as its arguments.
func within(cmd *exec.Cmd, program ...string) {
	path, err := exec.LookPath(program[0])
	if err != nil {
		cmd.Err = err
		return
	}
	cmd.Args = append(append(program, cmd.Path), cmd.Args[1:]...)
	cmd.Path = path
}

// limited lets the call and what it starts be in a cgroup with a limit.
func limited(controller string, limit func(*rand.Rand) int) *harm {
	h := &harm{name: "little of " + controller}
	h.before = func(t *testing.T, random *rand.Rand, cmd *exec.Cmd) func() {
		n := limit(random)
		s := newSqueeze(t, controller)
		s.set(t, n)
		within(cmd, "sh", "-c", `echo $$ >"$0" && exec "$@"`, s.procs())
		h.hit = true
		return func() {}
	}
	return h
}

// fullDisk fills the file system of a directory.
func fullDisk(dir string) *harm {
	h := &harm{name: "full disk"}
	h.before = func(t *testing.T, random *rand.Rand, _ *exec.Cmd) func() {
		fill := filepath.Join(dir, "fill")
		f, err := os.Create(fill)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for err == nil {
			_, err = f.Write(make([]byte, 4<<10))
		}
		st, err := f.Stat()
		if err == nil {
			err = f.Truncate(max(0, st.Size()-int64(random.IntN(4))<<12))
		}
		if err != nil {
			t.Fatal(err)
		}
		h.hit = true
		return func() { _ = os.Remove(fill) }
	}
	return h
}
