package e2e

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/tests/command"
	"github.com/microvm/microvm/tests/lab/labtest"
)

// TestInterfacesOnOneOfTheNamespace has a VLAN and a macvlan on an interface of
// the same namespace.
func TestInterfacesOnOneOfTheNamespace(t *testing.T) {
	labtest.SameOnBoth(t)
	n := newNeighbourhood(t)
	n.needs("vlan", "id", "1")
	n.needs("macvlan", "mode", "bridge")
	for _, ns := range []string{n.name, n.peer} {
		ip(t, "-n", ns, "link", "add", "link", "eth0", "name", "eth0.100", "type", "vlan", "id", "100")
		ip(t, "-n", ns, "link", "set", "eth0.100", "up")
	}
	n.address(n.name, "eth0.100", "10.100.0.2/24", "fd64::2/64")
	n.address(n.peer, "eth0.100", "10.100.0.1/24", "fd64::1/64")
	ip(t, "-n", n.name, "link", "add", "link", "eth0", "name", "mv0", "type", "macvlan", "mode", "bridge")
	ip(t, "-n", n.name, "link", "set", "mv0", "up")
	n.address(n.name, "mv0", "10.101.0.2/24")
	n.address(n.peer, "eth0", "10.101.0.1/24")
	s := newSite(t)
	id, _, _ := s.detached(s.bundle(sh(idle), n.in))
	out := s.command("exec", id, "sh", "-c", `ip link; cat /proc/net/vlan/config
		for a in 10.100.0.1 fd64::1 10.101.0.1 `+peerV4+`; do ping -c 1 -W 20 $a; done; ping -c 1 -s 30000 -W 20 10.100.0.1`).Output()
	if !strings.Contains(out, "eth0.100@eth0") || !strings.Contains(out, "mv0@eth0") || !strings.Contains(out, "| 100") || strings.Count(out, " 0% packet loss") != 5 {
		t.Errorf("in the guest:\n%s", out)
	}
	for _, link := range []string{"eth0.100", "mv0"} {
		ip(t, "-n", n.name, "link", "del", link)
	}
	command.Eventually(t, "both are gone", func() bool {
		out := s.command("exec", id, "ip", "link").Output()
		return !strings.Contains(out, "eth0.100") && !strings.Contains(out, "mv0")
	})
	ip(t, "netns", "exec", n.peer, "busybox", "ping", "-c", "1", "-W", "20", guestV4)
	s.command("delete", "--force", id).Output()
	n.untouched()
}

// needs skips the test where the kernel has no interfaces of that kind.
func (n *neighbourhood) needs(kind string, options ...string) {
	n.t.Helper()
	args := append([]string{"-n", n.peer, "link", "add", "link", "eth0", "name", "probe", "type", kind}, options...)
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		n.t.Skipf("the kernel makes no %s: %s", kind, out)
	}
	ip(n.t, "-n", n.peer, "link", "del", "probe")
}

// TestInterfacesOnAnother has interfaces on top of one that stays with the host;
// TestCNI has more of them.
func TestInterfacesOnAnother(t *testing.T) {
	labtest.SameOnBoth(t)
	for _, c := range []struct {
		kind    string
		options []string
		v6      bool
		refused string
	}{
		{kind: "vlan", options: []string{"id", "7"}, v6: true},
		{kind: "ipvlan", options: []string{"mode", "l3"}},
		{kind: "ipvlan", options: []string{"mode", "l3s"}, refused: "mode l3s"},
	} {
		t.Run(strings.Join(append([]string{c.kind}, c.options...), "-"), func(t *testing.T) {
			n := newNeighbourhood(t)
			n.needs(c.kind, c.options...)
			n.stack(c.kind, c.options)
			s := newSite(t)
			script := "ping -c 2 -W 20 " + peerV4 + "; wget -q -O - http://" + peerV4 + ":8080/"
			if c.v6 {
				script += "; ping -c 1 -W 20 " + peerV6
			}
			if c.refused != "" {
				o := s.runBundle(s.bundle([]string{"true"}, n.in))
				if o.Code != 0 || !strings.Contains(o.Stderr, c.refused) {
					t.Errorf("%v", o)
				}
				return
			}
			n.serve()
			o := s.runBundle(s.bundle(sh(script), n.in))
			want := 1
			if c.v6 {
				want++
			}
			if strings.Count(o.Stdout, " 0% packet loss") != want || !strings.Contains(o.Stdout, "of the peer") {
				t.Errorf("%v", o)
			}
		})
	}
}

// stack puts an interface eth0 of that kind into the namespace, in place of the
// one there, which stays in a third namespace below it.
func (n *neighbourhood) stack(kind string, options []string) {
	n.t.Helper()
	below := n.name + "-below"
	ip(n.t, "netns", "add", below)
	n.t.Cleanup(func() { ip(n.t, "netns", "del", below) })
	ip(n.t, "-n", n.name, "link", "set", "eth0", "netns", below)
	ip(n.t, "-n", below, "link", "set", "eth0", "up")
	ip(n.t, append([]string{"-n", below, "link", "add", "link", "eth0", "name", "up0", "netns", n.name, "type", kind}, options...)...)
	ip(n.t, "-n", n.name, "link", "set", "up0", "name", "eth0")
	ip(n.t, "-n", n.name, "link", "set", "eth0", "up")
	n.address(n.name, "eth0", guestV4+"/24", guestV6+"/64")
	switch {
	case kind == "vlan":
		for _, a := range []string{peerV4 + "/24", peerV6 + "/64"} {
			ip(n.t, "-n", n.peer, "addr", "del", a, "dev", "eth0")
		}
		ip(n.t, append([]string{"-n", n.peer, "link", "add", "link", "eth0", "name", "tagged", "type", kind}, options...)...)
		ip(n.t, "-n", n.peer, "link", "set", "tagged", "up")
		n.address(n.peer, "tagged", peerV4+"/24", peerV6+"/64")
	case strings.HasPrefix(options[1], "l3"): // the namespace below routes
		ip(n.t, "-n", below, "addr", "add", "10.77.0.254/24", "dev", "eth0")
		ip(n.t, "-n", n.peer, "route", "add", guestV4, "via", "10.77.0.254")
	}
}

// serve has the peer serve a page on port 8080 until the test ends.
func (n *neighbourhood) serve() {
	n.t.Helper()
	script := "while :; do printf 'HTTP/1.0 200 OK\\r\\n\\r\\nof the peer\\n' | busybox nc -l -p 8080 >/dev/null; done"
	cmd := exec.Command("ip", "netns", "exec", n.peer, "timeout", "-k", "1", "170", "busybox", "sh", "-c", script)
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { cmd.Process.Signal(unix.SIGTERM); cmd.Wait() })
}

// TestRoutesAndRules has what else says where packets go.
func TestRoutesAndRules(t *testing.T) {
	labtest.SameOnBoth(t)
	n := newNeighbourhood(t)
	for _, args := range []string{
		"rule add from 10.77.0.2 fwmark 0x1 lookup 100 priority 1000", "-6 rule add to fd99::/16 lookup 100 priority 1001",
		"route add 10.99.0.0/16 via 10.77.0.1 table 100", "-6 route add fd99::/16 via fd77::1 table 100",
		"route add blackhole 10.98.0.0/16", "-6 route add unreachable fd98::/64",
		"route add 10.97.0.0/16 nexthop via 10.77.0.1 dev eth0 weight 3 nexthop via 10.77.0.3 dev eth0",
		"neigh add 10.77.0.9 lladdr 02:00:00:00:00:09 dev eth0", "addr add 10.96.0.1/32 dev lo",
	} {
		ip(t, append([]string{"-n", n.name}, strings.Fields(args)...)...)
	}
	s := newSite(t)
	id, _, _ := s.detached(s.bundle(sh(idle), n.in))
	show := func() string {
		return s.command("exec", id, "sh", "-c", "ip rule; ip -6 rule; ip route show table 100; ip -6 route show table 100; ip route; ip -6 route; ip neigh; ip addr show lo").Output()
	}
	out := show()
	for _, want := range []string{
		"1000:\tfrom 10.77.0.2 fwmark 0x1 lookup 100", "to fd99::/16 lookup 100", "10.99.0.0/16 via 10.77.0.1 dev eth0", "fd99::/16 via fd77::1 dev eth0",
		"blackhole 10.98.0.0/16", "unreachable fd98::/64", "10.97.0.0/16", "10.77.0.9 dev eth0 lladdr 02:00:00:00:00:09", "inet 10.96.0.1/32",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q:\n%s", want, out)
		}
	}
	ip(t, "-n", n.name, "rule", "del", "priority", "1000")
	ip(t, "-n", n.name, "route", "del", "blackhole", "10.98.0.0/16")
	ip(t, "-n", n.name, "route", "del", "10.97.0.0/16")
	ip(t, "-n", n.name, "neigh", "del", "10.77.0.9", "dev", "eth0")
	ip(t, "-n", n.name, "addr", "del", "10.96.0.1/32", "dev", "lo")
	command.Eventually(t, "they are gone", func() bool {
		out = show()
		return !strings.Contains(out, "1000:") && !strings.Contains(out, "10.98") && !strings.Contains(out, "10.97.0.0/16") &&
			!strings.Contains(out, "10.77.0.9") && !strings.Contains(out, "10.96") && strings.Contains(out, "127.0.0.1/8")
	})
	if !strings.Contains(out, "to fd99::/16 lookup 100") {
		t.Errorf("others are, too:\n%s", out)
	}
	s.command("delete", "--force", id).Output()
}

// TestTapOfTheNamespace has a tap as the namespace's interface, whose frames a
// program carries to another one.
func TestTapOfTheNamespace(t *testing.T) {
	labtest.SameOnBoth(t)
	n := newNeighbourhood(t)
	ip(t, "-n", n.name, "link", "del", "eth0")
	near, far := n.tap(n.name), n.tap(n.peer)
	n.address(n.name, "eth0", guestV4+"/24", guestV6+"/64")
	n.address(n.peer, "eth0", peerV4+"/24", peerV6+"/64")
	go carry(near, far)
	go carry(far, near)
	s := newSite(t)
	o := s.runBundle(s.bundle(sh("ping -c 1 -W 20 "+peerV4+"; ping -c 1 -W 20 "+peerV6+"; ping -c 1 -s 30000 -W 20 "+peerV4), n.in))
	if strings.Count(o.Stdout, " 0% packet loss") != 3 {
		t.Errorf("%v", o)
	}
	n.untouched()
}

// tap makes a tap called eth0 in a namespace, which is gone when the test ends.
func (n *neighbourhood) tap(ns string) (frames *os.File) {
	n.t.Helper()
	tap := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, Mode: netlink.TUNTAP_MODE_TAP, NonPersist: true, Queues: 1, Flags: netlink.TUNTAP_ONE_QUEUE}
	if err := newInsider(n.t, "/run/netns/"+ns).in.Do(func() error { return netlink.LinkAdd(tap) }); err != nil {
		n.t.Fatal(err)
	}
	frames = tap.Fds[0]
	n.t.Cleanup(func() { frames.Close() })
	ip(n.t, "-n", ns, "link", "set", "eth0", "up")
	return frames
}

// carry copies frame by frame until one end is closed.
func carry(from, to *os.File) {
	p := make([]byte, 1<<16)
	for {
		n, err := from.Read(p)
		if err != nil {
			return
		}
		to.Write(p[:n]) // one that is down takes none
	}
}
