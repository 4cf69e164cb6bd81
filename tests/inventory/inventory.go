// Package inventory finds what a test has left behind on the host. Tests that use
// it are subreapers: nothing that they start can leave their descent.
package inventory

import (
	"net"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"
)

// Inventory is what a container could leave behind on the host.
type Inventory struct {
	dir       string
	words     []string        // in names of cgroups
	processes map[string]bool // pid and command line
	mounts    map[string]bool
	cgroups   map[string]bool
	sockets   map[string]bool // bound unix sockets
	links     map[string]bool // taps of ours, in the test's network namespace
}

// Take makes one, in which the temporary files are those below dir, the test's, and
// the cgroups those with one of these words in their names: without any, those of the
// runtime's own naming.
func Take(t *testing.T, dir string, cgroups ...string) Inventory {
	t.Helper()
	concerning := func(path string) string { return concerning(dir, path) }
	return Inventory{
		dir:       dir,
		words:     cgroups,
		processes: ourProcesses(),
		mounts:    lines(t, "/proc/self/mountinfo", func(f []string) string { return concerning(f[4]) }),
		cgroups:   ourCgroups(cgroups),
		sockets:   lines(t, "/proc/net/unix", func(f []string) string { return concerning(boundPath(f)) }),
		links:     ourLinks(),
	}
}

// concerning returns path unless it is a temporary file of somebody else, or
// the abstract name that the kernel gives to a socket without one.
func concerning(dir, path string) string {
	if strings.HasPrefix(path, dir+"/") {
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
// test runs: temporary files, sockets in a directory that only their maker knows
// by this name, the abstract names of unnamed sockets, what is being built in
// the cache, network namespaces with names, and what belongs to containerd, to a
// node of Kubernetes and to containers outside of the tests.
var elsewhere = []string{os.TempDir() + "/", "/var/lib/microvm-kubernetes/", "/proc/self/fd/", "@", "/run/containerd/", "/run/microvm/", "/run/netns/", cacheDir()}

func cacheDir() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "/root/.cache"
	}
	return dir
}

// Compare fails the test for everything that is there now and was not before.
// Processes that are about to end get a moment to do so, with what is theirs.
func Compare(t *testing.T, before Inventory) {
	t.Helper()
	left := Take(t, before.dir, before.words...).beyond(before)
	for end := time.Now().Add(10 * time.Second); len(left) > 0 && time.Now().Before(end); {
		time.Sleep(50 * time.Millisecond)
		left = Take(t, before.dir, before.words...).beyond(before)
	}
	for _, what := range left {
		t.Errorf("left behind: %s", what)
	}
}

// beyond lists what is in now and not in before.
func (now Inventory) beyond(before Inventory) (left []string) {
	for what, pair := range map[string][2]map[string]bool{
		"process": {now.processes, before.processes},
		"mount":   {now.mounts, before.mounts},
		"cgroup":  {now.cgroups, before.cgroups},
		"socket":  {now.sockets, before.sockets},
		"link":    {now.links, before.links},
	} {
		for _, k := range more(pair[0], pair[1]) {
			left = append(left, what+" "+k)
		}
	}
	return left
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

func ourCgroups(words []string) map[string]bool {
	if len(words) == 0 {
		words = []string{"microvm"}
	}
	set := map[string]bool{}
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*", "/sys/fs/cgroup/*/*"} {
		for _, word := range words {
			dirs, _ := filepath.Glob(root + "/*" + word + "*")
			for _, d := range dirs {
				set[d] = true
			}
		}
	}
	return set
}

// ourLinks leaves out what engines on the machine make and remove meanwhile.
func ourLinks() map[string]bool {
	set := map[string]bool{}
	links, _ := net.Interfaces() // not by /sys, which shows those of who mounted it
	for _, link := range links {
		if strings.HasPrefix(link.Name, "microvm") {
			set[link.Name] = true
		}
	}
	return set
}
