package chaos

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"testing"

	"github.com/microvm/microvm/tests/command"
)

// network is what a container has of one: a namespace with an interface, or, in that of
// the host, the user-mode one.
type network struct {
	t    *testing.T
	name string // of the namespace, and of an interface of the host's; empty for the user-mode one
}

// newNetwork makes a namespace, or, now and then, none. It is complete after connect.
func newNetwork(t *testing.T, random *rand.Rand) *network {
	t.Helper()
	if random.IntN(4) == 0 {
		t.Log("with the user-mode network")
		return &network{t: t}
	}
	n := &network{t: t, name: fmt.Sprintf("chaos%d", os.Getpid())}
	command.New(t, "ip", "netns", "add", n.name).Output()
	return n
}

func (n *network) user() bool   { return n.name == "" }
func (n *network) path() string { return "/run/netns/" + n.name }

// connect makes the interface.
func (n *network) connect() {
	n.t.Helper()
	if n.user() {
		return
	}
	command.New(n.t, "ip", "link", "add", n.name, "type", "veth", "peer", "name", "eth0", "netns", n.name).Output()
	command.New(n.t, "ip", "-n", n.name, "link", "set", "eth0", "up").Output()
}

// harms are what can be done to it.
func (n *network) harms() []*harm {
	if n.user() {
		harms := both("the network's process", false, named("microvm-network"))
		for _, h := range harms {
			h.deadly = false // the container goes on without
		}
		return harms
	}
	h := &harm{name: "no network namespace"}
	h.during = func(*testing.T, *rand.Rand, int) {
		h.hit = true
		_ = exec.Command("ip", "link", "delete", n.name).Run() // the other may have been quicker
		_ = exec.Command("ip", "netns", "delete", n.name).Run()
	}
	return []*harm{h}
}

// clean removes what is left of it, and waits for the interface to go.
func (n *network) clean() {
	n.t.Helper()
	if n.user() {
		return
	}
	_ = exec.Command("ip", "netns", "delete", n.name).Run() // the harm may have been that
	command.Eventually(n.t, "the network namespace is gone with its interface", func() bool {
		_, err := net.InterfaceByName(n.name)
		return err != nil
	})
}
