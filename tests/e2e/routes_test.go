package e2e

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/tests/command"
	"github.com/microvm/microvm/tests/lab/labtest"
)

// idle is a script that ends when it is told to.
const idle = "trap exit TERM; while :; do sleep 0.1; done"

// withHostsPrograms shows the container the programs of the host.
func withHostsPrograms(t *testing.T) func(*specs.Spec) {
	t.Helper()
	var mounts []specs.Mount
	for _, d := range []string{"/usr", "/lib", "/lib64"} {
		mounts = append(mounts, specs.Mount{Destination: d, Type: "bind", Source: resolved(t, d), Options: []string{"rbind", "ro"}})
	}
	return func(spec *specs.Spec) { spec.Mounts = append(spec.Mounts, mounts...) }
}

// netAdmin lets the container change its network.
func netAdmin(spec *specs.Spec) {
	c := spec.Process.Capabilities
	for _, set := range []*[]string{&c.Bounding, &c.Effective, &c.Permitted} {
		*set = append(*set, "CAP_NET_ADMIN")
	}
}

// TestGuestSeesWhatTheNamespaceHas asks the same ip(8) in the namespace and in the
// guest.
func TestGuestSeesWhatTheNamespaceHas(t *testing.T) {
	labtest.SameOnBoth(t)
	n := newNeighbourhood(t)
	for _, args := range []string{
		"addr add 10.77.9.1/24 brd + dev eth0", "addr add 10.77.0.3/24 dev eth0", "addr add 10.77.8.1 peer 10.77.8.2 dev eth0", "addr add 10.70.0.1/32 dev lo",
		"route add 10.90.0.0/16 via 192.0.2.1 dev eth0 onlink", "-6 route add fd90::/64 via fd66::1 dev eth0 onlink",
		"route add 10.91.0.0/16 via 10.77.0.1 mtu lock 1200 advmss 1000 hoplimit 9 initcwnd 20 initrwnd 30 src 10.77.9.1 metric 5",
		"route add 10.92.0.0/16 dev eth0 scope link table 300", "route add 10.93.0.0/16 via inet6 fd77::1 dev eth0",
		"route add 10.94.0.0/16 nexthop via 10.77.0.1 dev eth0 weight 3 nexthop via 192.0.2.1 dev eth0 onlink",
		"-6 route add fd91::/64 via fd77::1 mtu 1300 metric 9 table 300", "-6 route add fd92::/64 dev eth0",
		"-6 route add fd94::/64 nexthop via fd77::1 dev eth0 nexthop via fd77::5 dev eth0 weight 2",
		"route add 10.97.0.0/16 via 10.77.0.1", "route add 10.97.0.0/16 tos 0x10 via 10.77.0.6",
		"route add throw 10.95.0.0/16 table 300", "route add prohibit 10.96.0.0/16", "-6 route add blackhole fd95::/64",
		"rule add iif eth0 ipproto tcp dport 80-90 lookup 300 priority 500", "rule add oif eth0 uidrange 1000-2000 lookup 300 priority 501",
		"rule add not from 10.77.0.0/24 fwmark 0x10/0xf0 tos 0x10 lookup 300 priority 502", "rule add priority 600 lookup main suppress_prefixlength 0",
		"rule add to 10.66.0.0/16 goto 600 priority 503", "-6 rule add from fd77::/64 lookup 300 priority 504",
		"neigh add 10.77.0.9 lladdr 02:00:00:00:00:09 dev eth0 nud permanent", "neigh add fd77::9 lladdr 02:00:00:00:00:09 dev eth0 nud permanent",
	} {
		ip(t, append([]string{"-n", n.name}, strings.Fields(args)...)...)
	}
	ip(t, "netns", "exec", n.name, "busybox", "sysctl", "-w", "net.ipv4.conf.eth0.rp_filter=2", "net.ipv6.conf.eth0.autoconf=0")
	command.Eventually(t, "the namespace's addresses are settled", func() bool {
		return !strings.Contains(ip(t, "-n", n.name, "addr"), "tentative")
	})
	there := map[string][]string{
		"-o addr show dev eth0": nil, "-o addr show dev lo": nil, "-N route show table all": nil, "-N -6 route show table all": nil,
		"-N rule": nil, "-N -6 rule": nil, "neigh show nud permanent": nil,
	}
	for ask := range there { // before a tap is there, too
		there[ask] = lines(ip(t, append([]string{"-n", n.name}, strings.Fields(ask)...)...))
	}
	s := newSite(t)
	id, _, _ := s.detached(s.bundle(sh(idle), n.in, withHostsPrograms(t)))
	for ask, there := range there {
		here := lines(s.command(append([]string{"exec", id, "/usr/bin/ip"}, strings.Fields(ask)...)...).Output())
		slices.Sort(there)
		slices.Sort(here)
		if !slices.Equal(there, here) {
			t.Errorf("ip %s: in the namespace\n%s\nin the guest\n%s", ask, strings.Join(there, "\n"), strings.Join(here, "\n"))
		}
	}
	if got := s.command("exec", id, "cat", "/proc/sys/net/ipv4/conf/eth0/rp_filter", "/proc/sys/net/ipv6/conf/eth0/autoconf").Output(); got != "2\n0\n" {
		t.Errorf("settings of the interface: %q", got)
	}
	s.command("delete", "--force", id).Output()
}

// lines are those of text, without the numbers of interfaces before them. That the
// guest does not look for duplicates of what the host has looked for is no difference.
func lines(text string) (all []string) {
	for l := range strings.Lines(text) {
		if _, rest, ok := strings.Cut(l, ": "); ok {
			l = rest
		}
		all = append(all, strings.Replace(strings.TrimSpace(l), " nodad ", " ", 1))
	}
	return all
}

// TestContainersOwnAddressesStay though the namespace changes.
func TestContainersOwnAddressesStay(t *testing.T) {
	labtest.SameOnBoth(t)
	n := newNeighbourhood(t)
	s := newSite(t)
	script := "ip addr add 10.77.5.5/24 dev eth0 && ip -6 addr add fd75::5/64 dev eth0 && ip route add 10.66.0.0/16 via 10.77.0.1 && touch /ready; " + idle
	id, _, _ := s.detached(s.bundle(sh(script), n.in, netAdmin))
	command.Eventually(t, "the container has set them", func() bool { return s.command("exec", id, "test", "-e", "/ready").Run().Code == 0 })
	show := func() string { return s.command("exec", id, "sh", "-c", "ip addr; ip route").Output() }
	n.join("net1")
	command.Eventually(t, "the new interface is there", func() bool { return strings.Contains(show(), "net1: <BROADCAST,MULTICAST,UP,LOWER_UP>") })
	ip(t, "-n", n.name, "route", "del", "10.88.0.0/16")
	command.Eventually(t, "a route of the namespace is gone", func() bool { return !strings.Contains(show(), "10.88.0.0/16") })
	out := show()
	for _, own := range []string{"inet 10.77.5.5/24", "inet6 fd75::5/64", "10.66.0.0/16 via 10.77.0.1"} {
		if !strings.Contains(out, own) {
			t.Errorf("the container's own %q is gone:\n%s", own, out)
		}
	}
	s.command("delete", "--force", id).Output()
}

// TestRouters has a router on the link, which the namespace hears before the
// container is there, and the guest afterwards.
func TestRouters(t *testing.T) {
	labtest.SameOnBoth(t)
	n := newNeighbourhood(t)
	router := newInsider(t, "/run/netns/"+n.peer)
	command.Eventually(t, "the namespace has an address of the router's", func() bool {
		router.advertise("fd55::")
		return strings.Contains(ip(t, "-n", n.name, "addr"), "inet6 fd55:")
	})
	s := newSite(t)
	id, _, _ := s.detached(s.bundle(sh(idle), n.in))
	show := func() string { return s.command("exec", id, "sh", "-c", "ip addr; ip -6 route").Output() }
	out := show()
	if !strings.Contains(out, "inet6 fd55:") || !strings.Contains(out, "default via fe80:") {
		t.Errorf("the guest begins with\n%s", out)
	}
	command.Eventually(t, "the guest hears the router", func() bool {
		router.advertise("fd56::")
		return strings.Contains(show(), "inet6 fd56:")
	})
	n.join("net1")
	command.Eventually(t, "the new interface is there", func() bool { return strings.Contains(show(), "net1") })
	if out := show(); !strings.Contains(out, "inet6 fd55:") || !strings.Contains(out, "inet6 fd56:") {
		t.Errorf("after a change of the namespace the guest has\n%s", out)
	}
	s.command("delete", "--force", id).Output()
}

// advertise sends a router advertisement with a prefix of 64 bits out of eth0 (RFC
// 4861, sections 4.2 and 4.6.2).
func (i *insider) advertise(prefix string) {
	i.t.Helper()
	m := []byte{134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0, 3, 4, 64, 0xc0}
	for _, seconds := range []uint32{7200, 3600, 0} {
		m = binary.BigEndian.AppendUint32(m, seconds)
	}
	m = append(m, netip.MustParseAddr(prefix).AsSlice()...)
	err := i.in.Do(func() error {
		eth0, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255); err != nil {
			return err
		}
		all := netip.MustParseAddr("ff02::1").As16()
		return unix.Sendto(fd, m, 0, &unix.SockaddrInet6{Addr: all, ZoneId: uint32(eth0.Index)})
	})
	if err != nil {
		i.t.Fatal(err)
	}
}
