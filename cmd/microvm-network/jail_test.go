package main

import (
	"regexp"
	"slices"
	"testing"

	"github.com/microvm/microvm/runtime/check"
)

// TestJail reads back how the process is confined.
func TestJail(t *testing.T) {
	p, err := check.ReadProcess(newWorld(t).newGuest("--publish", "127.0.0.1:8004=80").pid)
	if err != nil {
		t.Fatal(err)
	}
	if p.UID != 65534 || len(p.Capabilities) > 0 {
		t.Errorf("user %d with capabilities %v", p.UID, p.Capabilities)
	}
	if !p.NoNewPrivileges || p.Filtered != p.Threads || p.Threads == 0 {
		t.Errorf("no_new_privs %v, filter on %d of %d threads", p.NoNewPrivileges, p.Filtered, p.Threads)
	}
	if want := []string{"ipc", "mnt", "net", "pid", "uts"}; !slices.Equal(p.Own, want) { // net is the world's
		t.Errorf("namespaces of its own: %v, want %v", p.Own, want)
	}
	for _, name := range p.Root {
		if name != "etc" && name != "run" && name != "var" { // where resolv.conf may be
			t.Errorf("it sees /%s", name)
		}
	}
	allowed := regexp.MustCompile(`^(/dev/null|anon_inode:\[(eventfd|eventpoll)\]|(socket|pipe):\[\d+\])$`)
	for fd, link := range p.Descriptors {
		if !allowed.MatchString(link) {
			t.Errorf("descriptor %d is %s", fd, link)
		}
	}
}
