package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// inventory is what a container could leave behind on the host.
type inventory struct {
	processes map[string]bool // pid and command line
	mounts    map[string]bool
	cgroups   map[string]bool
	sockets   map[string]bool // bound unix sockets
	links     map[string]bool // network interfaces
}

func (s *site) inventory() inventory {
	s.t.Helper()
	return inventory{
		processes: ourProcesses(),
		mounts:    lines(s.t, "/proc/self/mountinfo", func(f []string) string { return s.concerning(f[4]) }),
		cgroups:   ourCgroups(),
		sockets:   lines(s.t, "/proc/net/unix", func(f []string) string { return s.concerning(boundPath(f)) }),
		links:     dirNames("/sys/class/net"),
	}
}

// concerning returns path unless it is a temporary file of somebody else, or
// the abstract name that the kernel gives to a socket without one.
func (s *site) concerning(path string) string {
	if strings.HasPrefix(path, s.dir+"/") {
		return path
	}
	for _, others := range elsewhere {
		if strings.HasPrefix(path, others) {
			return ""
		}
	}
	return path
}

// elsewhere are prefixes of what others on the machine make and remove while a
// test runs: temporary files, the abstract names of unnamed sockets, and what
// belongs to containerd and to containers outside of the tests.
var elsewhere = []string{os.TempDir() + "/", "@", "/run/containerd/", "/run/microvm/"}

// compare fails the test for everything that is there now and was not before. Processes
// that are about to end get a moment to do so.
func (s *site) compare(before inventory) {
	t := s.t
	t.Helper()
	now := s.inventory()
	for end := time.Now().Add(10 * time.Second); len(more(now.processes, before.processes)) > 0 && time.Now().Before(end); {
		time.Sleep(50 * time.Millisecond)
		now = s.inventory()
	}
	for what, pair := range map[string][2]map[string]bool{
		"process": {now.processes, before.processes},
		"mount":   {now.mounts, before.mounts},
		"cgroup":  {now.cgroups, before.cgroups},
		"socket":  {now.sockets, before.sockets},
		"link":    {now.links, before.links},
	} {
		for _, k := range more(pair[0], pair[1]) {
			t.Errorf("left behind: %s %s", what, k)
		}
	}
}

func more(now, before map[string]bool) []string {
	var extra []string
	for k := range now {
		if !before[k] {
			extra = append(extra, k)
		}
	}
	sort.Strings(extra)
	return extra
}

func lines(t *testing.T, path string, key func(fields []string) string) map[string]bool {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	set := map[string]bool{}
	for line := range strings.Lines(string(data)) {
		if k := key(strings.Fields(line)); k != "" {
			set[k] = true
		}
	}
	return set
}

func boundPath(f []string) string {
	if len(f) < 8 {
		return ""
	}
	return f[7]
}

// ourProcesses finds what descends from the test and is one of our binaries or
// QEMU as the software machine. The test is a subreaper: nothing that it
// started can leave its descent.
func ourProcesses() map[string]bool {
	reapOrphans()
	set := map[string]bool{}
	for pid := range descendants(os.Getpid()) {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil || len(data) == 0 {
			continue
		}
		cmdline := strings.ReplaceAll(strings.TrimRight(string(data), "\x00"), "\x00", " ")
		if strings.Contains(cmdline, "microvm") {
			set[fmt.Sprintf("%d: %s", pid, clip(cmdline))] = true
		}
	}
	return set
}

// descendants returns the pids of the processes below root.
func descendants(root int) map[int]bool {
	parents := map[int]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err == nil {
			_, parents[pid] = commAndParent(path)
		}
	}
	below := map[int]bool{}
	for pid := range parents {
		for up := parents[pid]; up > 1; up = parents[up] {
			if up == root {
				below[pid] = true
				break
			}
		}
	}
	return below
}

// reapOrphans collects children that the test got as a subreaper and does not
// wait for by their pid: only those that are zombies of our binaries.
func reapOrphans() {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		data, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		var pid, ppid int
		var state string
		rest := string(data[strings.LastIndexByte(string(data), ')')+1:])
		if _, err := fmt.Sscan(string(data), &pid); err != nil {
			continue
		}
		if _, err := fmt.Sscan(rest, &state, &ppid); err != nil {
			continue
		}
		if ppid == os.Getpid() && state == "Z" && strings.Contains(string(data), "(microvm-") {
			_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
		}
	}
}

func ourCgroups() map[string]bool {
	set := map[string]bool{}
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
		dirs, _ := filepath.Glob(root + "/*microvm*")
		for _, d := range dirs {
			set[d] = true
		}
	}
	return set
}

func dirNames(dir string) map[string]bool {
	set := map[string]bool{}
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		set[e.Name()] = true
	}
	return set
}
