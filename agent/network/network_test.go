package network

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/agent/api"
)

// inGuest calls f in a network namespace with as many network devices as the
// machine has.
func inGuest(t *testing.T, devices int, f func(n *Network)) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Error(err)
			return
		}
		for i := range devices {
			link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: fmt.Sprint("eth", i), HardwareAddr: api.NICAddress(i)}, PeerName: fmt.Sprint("peer", i)}
			if err := netlink.LinkAdd(link); err != nil {
				t.Error(err)
				return
			}
		}
		n, err := New(filepath.Join(t.TempDir(), "namespace"))
		if err != nil {
			t.Error(err)
			return
		}
		n.Names = filepath.Join(t.TempDir(), "resolv.conf")
		defer unix.Unmount(n.Path(), unix.MNT_DETACH)
		f(n)
	}()
	<-done
}

func set(t *testing.T, n *Network, want *api.Network) error {
	t.Helper()
	req, err := api.NewNetworkRequest(want)
	if err != nil {
		t.Error(err)
		return err
	}
	_, err = n.Set(context.Background(), req)
	return err
}

// eth0 is the containers' interface of that name.
func eth0(n *Network) (link netlink.Link) {
	_ = n.containers.do(func() (err error) {
		link, err = netlink.LinkByName("eth0")
		return err
	})
	return link
}

func testNetwork() *api.Network {
	return &api.Network{
		Interfaces: []api.Interface{{
			NIC: 1, Name: "eth0", MAC: "02:00:00:00:00:77", MTU: 1400,
			Addresses: []api.Address{{Prefix: netip.MustParsePrefix("192.0.2.7/24")}, {Prefix: netip.MustParsePrefix("2001:db8::7/64")}},
		}},
		Routes:     []api.Route{{Interface: "eth0", Destination: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("192.0.2.1"), Type: unix.RTN_UNICAST}},
		Neighbours: []api.Neighbour{{Interface: "eth0", Address: netip.MustParseAddr("192.0.2.9"), MAC: "02:00:00:00:00:99"}},
	}
}

func TestNetworkIsSetAndChanged(t *testing.T) {
	inGuest(t, 2, func(n *Network) {
		if eth0(n) != nil {
			t.Error("devices are seen before they are interfaces")
		}
		want := testNetwork()
		for range 2 { // the same once more changes nothing
			if err := set(t, n, want); err != nil {
				t.Error(err)
			}
			check(t, n, 2, 1)
		}
		want.Interfaces[0].Addresses = want.Interfaces[0].Addresses[:1]
		want.Routes = nil
		if err := set(t, n, want); err != nil {
			t.Error(err)
		}
		check(t, n, 1, 0)
		if err := set(t, n, &api.Network{}); err != nil {
			t.Error(err)
		}
		if eth0(n) != nil {
			t.Error("eth0 is still there")
		}
		if err := set(t, n, testNetwork()); err != nil {
			t.Error(err)
		}
		check(t, n, 2, 1)
	})
}

// check fails the test unless eth0 has so many addresses and routes of ours.
func check(t *testing.T, n *Network, addresses, routes int) {
	t.Helper()
	link := eth0(n)
	if link == nil {
		t.Error("no eth0")
		return
	}
	if a := link.Attrs(); a.HardwareAddr.String() != "02:00:00:00:00:77" || a.MTU != 1400 || a.RawFlags&unix.IFF_UP == 0 {
		t.Errorf("eth0 is %+v", a)
	}
	var addrs []netlink.Addr
	ours := 0
	err := n.containers.do(func() (err error) {
		if addrs, err = netlink.AddrList(link, netlink.FAMILY_ALL); err != nil {
			return err
		}
		all, err := netlink.RouteList(link, netlink.FAMILY_V4)
		for _, r := range all {
			if r.Protocol != unix.RTPROT_KERNEL {
				ours++
			}
		}
		return err
	})
	if err != nil || len(addrs) != addresses || ours != routes {
		t.Errorf("addresses %v, %d routes, %v", addrs, ours, err)
	}
}

// TestOthersAddressesStay has the container, and a router, add some.
func TestOthersAddressesStay(t *testing.T) {
	inGuest(t, 2, func(n *Network) {
		want := testNetwork()
		heard := api.Address{Prefix: netip.MustParsePrefix("2001:db8:1::7/64"), Valid: 1000, Preferred: 500}
		want.Interfaces[0].Addresses = append(want.Interfaces[0].Addresses, heard)
		if err := set(t, n, want); err != nil {
			t.Error(err)
		}
		own := &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix("198.51.100.7/24"))}
		err := n.containers.do(func() error {
			link, err := netlink.LinkByName("eth0")
			if err != nil {
				return err
			}
			way := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(netip.MustParsePrefix("203.0.113.0/24")), Gw: net.IP{198, 51, 100, 1}}
			return errors.Join(netlink.AddrAdd(link, own), netlink.RouteAdd(way))
		})
		if err != nil {
			t.Error(err)
		}
		check(t, n, 4, 2)
		want.Interfaces[0].Addresses = want.Interfaces[0].Addresses[:1] // both of IPv6 go, but one has been heard
		want.Routes = nil
		if err := set(t, n, want); err != nil {
			t.Error(err)
		}
		check(t, n, 3, 1)
	})
}

// TestSettings are written when they are said to have changed, and others left alone.
func TestSettings(t *testing.T) {
	inGuest(t, 2, func(n *Network) {
		const said, own = "ipv4/rp_filter", "ipv4/arp_ignore"
		want := testNetwork()
		for _, c := range []struct {
			said map[string]string
			want string
		}{{map[string]string{said: "2", own: "1"}, "2 1"}, {map[string]string{said: "1", own: "1"}, "1 2"}, {nil, "0 0"}} {
			want.Interfaces[0].Settings = c.said
			if err := set(t, n, want); err != nil {
				t.Error(err)
			}
			err := n.containers.do(func() error {
				a, err := os.ReadFile(api.SettingPath(said, "eth0"))
				b, berr := os.ReadFile(api.SettingPath(own, "eth0"))
				if got := strings.Join(strings.Fields(string(a)+string(b)), " "); got != c.want {
					t.Errorf("told of %v: %s", c.said, got)
				}
				return errors.Join(err, berr, os.WriteFile(api.SettingPath(own, "eth0"), []byte("2"), 0))
			})
			if err != nil {
				t.Error(err)
			}
		}
	})
}

func TestAdoptMovesAll(t *testing.T) {
	inGuest(t, 2, func(n *Network) {
		if err := set(t, n, testNetwork()); err != nil {
			t.Error(err)
		}
		other := exec.Command("sleep", "1000")
		other.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
		if err := other.Start(); err != nil {
			t.Error(err)
			return
		}
		defer other.Wait()
		defer other.Process.Kill()
		if err := n.Adopt(other.Process.Pid); err != nil {
			t.Error(err)
		}
		check(t, n, 2, 1)
	})
}

func TestBadNetworksAreRefused(t *testing.T) {
	inGuest(t, 1, func(n *Network) {
		for name, change := range map[string]func(*api.Network){
			"no such device":      func(w *api.Network) { w.Interfaces[0].NIC = 1 },
			"device out of range": func(w *api.Network) { w.Interfaces[0].NIC = 99 },
			"no name":             func(w *api.Network) { w.Interfaces[0].Name = "" },
			"bad address":         func(w *api.Network) { w.Interfaces[0].MAC = "x" },
			"device twice":        func(w *api.Network) { w.Interfaces = append(w.Interfaces, w.Interfaces[0]) },
			"route to nowhere":    func(w *api.Network) { w.Routes[0].Interface = "eth9" },
			"rule half passed on": func(w *api.Network) {
				w.Rules = []api.Rule{{Priority: 7, Type: unix.RTN_UNICAST, Table: 1000, SuppressPrefix: new(int)}}
			},
			"name too long": func(w *api.Network) { w.Interfaces[0].Name = "a-name-that-is-too-long" },
		} {
			want := testNetwork()
			want.Interfaces[0].NIC = 0
			change(want)
			if err := set(t, n, want); err == nil {
				t.Errorf("%s: accepted", name)
			}
		}
		want := testNetwork()
		want.Interfaces[0].NIC = 0
		if err := set(t, n, want); err != nil {
			t.Errorf("after all that: %v", err)
		}
	})
}

// TestDial connects to a listener in the containers' namespace that others do
// not have.
func TestDial(t *testing.T) {
	inGuest(t, 1, func(n *Network) {
		var echo net.Listener
		err := n.containers.do(func() (err error) {
			echo, err = net.Listen("tcp", "127.0.0.1:0")
			return err
		})
		if err != nil {
			t.Error(err)
			return
		}
		defer echo.Close()
		go func() {
			for {
				c, err := echo.Accept()
				if err != nil {
					return
				}
				io.Copy(c, c)
				c.Close()
			}
		}()
		host, err := net.Listen("unix", filepath.Join(t.TempDir(), "host"))
		if err != nil {
			t.Error(err)
			return
		}
		defer host.Close()
		go n.Serve(host)
		visit := func(to netip.AddrPort, text string) (string, error) {
			c, err := net.Dial("unix", host.Addr().String())
			if err != nil {
				return "", err
			}
			defer c.Close()
			if err := api.Dial(c, to); err != nil {
				return "", err
			}
			if _, err := io.WriteString(c, text); err != nil {
				return "", err
			}
			if err := c.(*net.UnixConn).CloseWrite(); err != nil {
				return "", err
			}
			got, err := io.ReadAll(c)
			return string(got), err
		}
		port := uint16(echo.Addr().(*net.TCPAddr).Port)
		if got, err := visit(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port), "hello"); got != "hello" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		for _, nobody := range []string{"::1", "192.0.2.1"} {
			if got, err := visit(netip.AddrPortFrom(netip.MustParseAddr(nobody), port), "hello"); !errors.Is(err, api.ErrRefused) {
				t.Errorf("%s: %q, %v", nobody, got, err)
			}
		}
	})
}

func TestLooseRoutesAndRules(t *testing.T) {
	inGuest(t, 2, func(n *Network) {
		want := testNetwork()
		hops := []api.Hop{{Interface: "eth0", Gateway: netip.MustParseAddr("192.0.2.1"), Weight: 2}, {Interface: "eth0", Gateway: netip.MustParseAddr("192.0.2.3")}}
		bare := len(want.Routes)
		want.Routes = append(want.Routes,
			api.Route{Destination: netip.MustParsePrefix("198.51.100.0/24"), Type: unix.RTN_UNICAST, Hops: hops},
			api.Route{Destination: netip.MustParsePrefix("203.0.113.0/24"), Type: unix.RTN_BLACKHOLE},
			api.Route{Destination: netip.MustParsePrefix("2001:db8:1::/48"), Type: unix.RTN_UNREACHABLE},
			api.Route{Interface: "eth0", Destination: netip.MustParsePrefix("203.0.114.0/24"), Gateway: netip.MustParseAddr("2001:db8::1"), Type: unix.RTN_UNICAST, Table: 100},
		)
		mask, suppress := uint32(0xff), 0
		want.Rules = []api.Rule{
			{Priority: 100, Type: unix.RTN_UNICAST, Table: 100, From: netip.MustParsePrefix("192.0.2.0/24"), Mark: 1, Mask: &mask, DestinationPorts: &[2]uint16{80, 90}},
			{Priority: 101, Type: unix.RTN_UNICAST, Table: unix.RT_TABLE_MAIN, IPv6: true, In: "eth0", SuppressPrefix: &suppress, Not: true},
			{Priority: 102, Type: unix.RTN_UNREACHABLE, To: netip.MustParsePrefix("203.0.115.0/24")},
		}
		for range 2 { // the second time there is nothing to do
			if err := set(t, n, want); err != nil {
				t.Error(err)
				return
			}
		}
		routes, rules := count(t, n)
		foreign := netlink.NewRule()
		foreign.Priority, foreign.Table = 200, 200
		if err := n.containers.do(func() error { return netlink.RuleAdd(foreign) }); err != nil {
			t.Error(err)
		}
		want.Routes, want.Rules = want.Routes[:bare], want.Rules[1:2]
		if err := set(t, n, want); err != nil {
			t.Error(err)
		}
		if r, u := count(t, n); r != routes-4 || u != rules-2+1 {
			t.Errorf("%d routes and %d rules before, %d and %d after 4 and 2 were removed and a rule was added by another", routes, rules, r, u)
		}
	})
}

// count is how many routes and rules there are.
func count(t *testing.T, n *Network) (routes, rules int) {
	err := n.containers.do(func() error {
		all, err := netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{}, netlink.RT_FILTER_TABLE)
		if err != nil {
			return err
		}
		u, err := netlink.RuleList(netlink.FAMILY_ALL)
		routes, rules = len(all), len(u)
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return routes, rules
}

// TestNames asks over both protocols, and answers as the host.
func TestNames(t *testing.T) {
	inGuest(t, 1, func(n *Network) {
		host, err := net.Listen("unix", filepath.Join(t.TempDir(), "host"))
		if err != nil {
			t.Error(err)
			return
		}
		defer host.Close()
		go n.Serve(host)
		c, err := net.Dial("unix", host.Addr().String())
		at := netip.MustParseAddrPort("127.0.0.11:53")
		if err == nil {
			err = api.ServeNames(c, at)
		}
		if err != nil {
			t.Error(err)
			return
		}
		go func() { // the host answers with what it is asked
			for {
				var m api.NameMessage
				if m.Read(c) != nil {
					return
				}
				m.Message = append([]byte(fmt.Sprint(m.Stream, " ")), m.Message...)
				m.Write(c)
			}
		}()
		askNames(t, n, at)
		other := exec.Command("sh", "-c", "ip link set lo up; echo; exec sleep 1000")
		other.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
		ready, err := other.StdoutPipe()
		if err == nil {
			err = other.Start()
		}
		if err != nil {
			t.Error(err)
			return
		}
		defer other.Wait()
		defer other.Process.Kill()
		ready.Read(make([]byte, 1))
		if err := n.Adopt(other.Process.Pid); err != nil {
			t.Error(err)
		}
		askNames(t, n, at)
		c.Close()
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			err := n.containers.do(func() error {
				l, err := net.ListenPacket("udp", at.String())
				if err == nil {
					l.Close()
				}
				return err
			})
			if err == nil {
				return
			}
			if time.Now().After(end) {
				t.Errorf("after the host has hung up: %v", err)
				return
			}
		}
	})
}

// askNames asks over both protocols.
func askNames(t *testing.T, n *Network, at netip.AddrPort) {
	t.Helper()
	for _, a := range []struct{ protocol, question, answer string }{
		{"udp", "who", "false who"}, {"tcp", "\x00\x03who", "\x00\x08true who"},
	} {
		var got string
		err := n.containers.do(func() error {
			q, err := net.Dial(a.protocol, at.String())
			if err != nil {
				return err
			}
			defer q.Close()
			q.SetDeadline(time.Now().Add(10 * time.Second))
			io.WriteString(q, a.question)
			p := make([]byte, len(a.answer))
			_, err = io.ReadFull(q, p)
			got = string(p)
			return err
		})
		if err != nil || got != a.answer {
			t.Errorf("%s: %q, %v", a.protocol, got, err)
		}
	}
}
