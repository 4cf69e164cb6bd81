package container

import (
	"testing"
	"time"
)

// TestNetworkWait: a slow monitor gets longer than a namespace that changes all the
// time.
func TestNetworkWait(t *testing.T) {
	w := networkWait{first: "empty"}
	for _, c := range []struct {
		waited    time.Duration
		got, want string
		over      bool
	}{
		{0, "empty", "empty", true},
		{0, "empty", "eth0", false},
		{2 * restlessGrace, "empty", "eth0", false},
		{2 * restlessGrace, "eth0", "eth0", true},
		{restlessGrace - 1, "eth0", "eth0 eth1", false},
		{restlessGrace, "eth0", "eth0 eth1", true},
		{networkGrace, "empty", "eth0", true},
	} {
		if got := w.over(c.waited, c.got, c.want); got != c.over {
			t.Errorf("after %v with %q for %q: over %v", c.waited, c.got, c.want, got)
		}
	}
}
