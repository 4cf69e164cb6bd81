package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/fdbased"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/microvm/microvm/netns"
	"github.com/microvm/microvm/vmm/control"
)

// Addresses of the world behind the gateway.
var worlds = []netip.Addr{netip.MustParseAddr("10.99.0.1"), netip.MustParseAddr("fd99::1")}

// world is a network namespace that stands for the host's, where a
// microvm-network runs.
type world struct {
	t    *testing.T
	name string
	in   *netns.Namespace
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, name: fmt.Sprintf("usernet-%d", os.Getpid())}
	w.ip("netns", "add", w.name)
	t.Cleanup(func() { w.ip("netns", "del", w.name) })
	w.ip("-n", w.name, "link", "set", "lo", "up")
	for _, a := range worlds {
		w.ip("-n", w.name, "addr", "add", a.String(), "dev", "lo")
	}
	var err error
	if w.in, err = netns.Open("/run/netns/" + w.name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.in.Close() })
	return w
}

func (w *world) ip(args ...string) {
	w.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		w.t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

func (w *world) pingers(groups string) {
	w.t.Helper()
	w.ip("netns", "exec", w.name, "sysctl", "-q", "-w", "net.ipv4.ping_group_range="+groups)
}

// echoes answers at all addresses of the world, and returns its port.
func (w *world) echoes() (port uint16) {
	w.t.Helper()
	err := w.in.Do(func() error {
		l, err := net.Listen("tcp", ":0")
		if err != nil {
			return err
		}
		w.t.Cleanup(func() { l.Close() })
		port = l.Addr().(*net.TCPAddr).AddrPort().Port()
		c, err := net.ListenPacket("udp", fmt.Sprint(":", port))
		if err != nil {
			return err
		}
		w.t.Cleanup(func() { c.Close() })
		go serve(l, echo)
		go answerDatagrams(c)
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return port
}

// serve has each connection answered until l is closed.
func serve(l net.Listener, answer func(net.Conn)) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			answer(c)
		}()
	}
}

func echo(c net.Conn) { io.Copy(c, c) }

func answerDatagrams(c net.PacketConn) {
	p := make([]byte, 1<<16)
	for {
		n, from, err := c.ReadFrom(p)
		if err != nil {
			return
		}
		c.WriteTo(p[:n], from)
	}
}

// guest is a host behind the gateway.
type guest struct {
	t     *testing.T
	stack *stack.Stack
	link  *mute
	pid   int // of its network
}

// guestMTU makes fragments of what fits into the gateway's.
const guestMTU = 1500

// newGuest starts a microvm-network in the world, with a guest.
func (w *world) newGuest(args ...string) *guest {
	w.t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "network")
	defer theirs.Close()
	ready, started, err := os.Pipe()
	if err != nil {
		w.t.Fatal(err)
	}
	defer ready.Close()
	cmd := exec.Command("ip", append([]string{"netns", "exec", w.name, build(w.t), "--socket", "3", "--ready", "4"}, args...)...)
	cmd.ExtraFiles, cmd.Stderr = []*os.File{theirs, started}, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: control.Namespaces}
	err = cmd.Start()
	started.Close()
	if err != nil {
		w.t.Fatal(err)
	}
	g := &guest{t: w.t, pid: cmd.Process.Pid}
	g.stack, g.link = newStack(w.t, fds[0])
	w.t.Cleanup(func() {
		g.stack.Destroy()
		unix.Close(fds[0])
		cmd.Wait()
	})
	if n, err := ready.Read(make([]byte, 1)); n != 1 {
		w.t.Fatalf("microvm-network: %v", err)
	}
	return g
}

func newStack(t *testing.T, socket int) (*stack.Stack, *mute) {
	t.Helper()
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{arp.NewProtocol, ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6},
	})
	mac, _ := tcpip.ParseMACAddress(netns.UserMAC)
	wire, err := fdbased.New(&fdbased.Options{FDs: []int{socket}, MTU: guestMTU, EthernetHeader: true, Address: mac})
	if err != nil {
		t.Fatal(err)
	}
	link := newMute(wire)
	if err := s.CreateNIC(1, link); err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{netns.UserAddress4, netns.UserAddress6} {
		own := tcpip.ProtocolAddress{Protocol: family(netip.MustParseAddr(a)), AddressWithPrefix: full(netip.MustParseAddr(a), 0).Addr.WithPrefix()}
		if err := s.AddProtocolAddress(1, own, stack.AddressProperties{}); err != nil {
			t.Fatal(err)
		}
	}
	s.SetRouteTable([]tcpip.Route{
		{Destination: header.IPv4EmptySubnet, Gateway: full(netip.MustParseAddr(netns.UserGateway4), 0).Addr, NIC: 1},
		{Destination: header.IPv6EmptySubnet, Gateway: full(netip.MustParseAddr(netns.UserGateway6), 0).Addr, NIC: 1},
	})
	return s, link
}

func family(a netip.Addr) tcpip.NetworkProtocolNumber {
	if a.Is4() {
		return ipv4.ProtocolNumber
	}
	return ipv6.ProtocolNumber
}

func full(a netip.Addr, port uint16) tcpip.FullAddress {
	return tcpip.FullAddress{NIC: 1, Addr: tcpip.AddrFromSlice(a.AsSlice()), Port: port}
}

func (g *guest) dial(a netip.Addr, port uint16) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return gonet.DialContextTCP(ctx, g.stack, full(a, port), family(a))
}

// answerTime is how long a ping's answer is waited for.
const answerTime = 2 * time.Second

// ping sends a request of size bytes and wants its answer.
func (g *guest) ping(a netip.Addr, size int) error {
	var events waiter.Queue
	number, message := icmp.ProtocolNumber4, []byte{byte(header.ICMPv4Echo), 0, 0, 0, 0, 0, 0, 7}
	if a.Is6() {
		number, message[0] = icmp.ProtocolNumber6, byte(header.ICMPv6EchoRequest)
	}
	ep, err := g.stack.NewEndpoint(number, family(a), &events)
	if err != nil {
		return fmt.Errorf("%s", err)
	}
	defer ep.Close()
	arrived, ch := waiter.NewChannelEntry(waiter.ReadableEvents)
	events.EventRegister(&arrived)
	to := full(a, 0)
	data := bytes.Repeat([]byte("ping"), size/4)
	if _, err := ep.Write(bytes.NewReader(append(message, data...)), tcpip.WriteOptions{To: &to}); err != nil {
		return fmt.Errorf("%s", err)
	}
	select {
	case <-ch:
	case <-time.After(answerTime):
		return os.ErrDeadlineExceeded
	}
	var got bytes.Buffer
	if _, err := ep.Read(&got, tcpip.ReadOptions{}); err != nil {
		return fmt.Errorf("%s", err)
	}
	if !bytes.HasSuffix(got.Bytes(), data) || got.Bytes()[7] != 7 {
		return fmt.Errorf("answer of %d bytes to %d", got.Len(), size)
	}
	return nil
}

// TestReachesTheWorld has a guest reach what the namespace of its
// microvm-network reaches, over both protocols.
func TestReachesTheWorld(t *testing.T) {
	w := newWorld(t)
	w.pingers("0 2147483647")
	port := w.echoes()
	g := w.newGuest()
	for _, a := range worlds {
		t.Run(a.String(), func(t *testing.T) {
			c, err := g.dial(a, port)
			if err != nil {
				t.Fatal(err)
			}
			data := bytes.Repeat([]byte("stream"), 1<<18)
			go func() {
				c.Write(data)
				c.(*gonet.TCPConn).CloseWrite()
			}()
			if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes came back of %d: %v", len(got), len(data), err)
			}
			if _, err := g.dial(a, port+1); err == nil || !strings.Contains(err.Error(), "refused") {
				t.Errorf("where nobody listens: %v", err)
			}
			to := full(a, port)
			u, err := gonet.DialUDP(g.stack, nil, &to, family(a))
			if err != nil {
				t.Fatal(err)
			}
			u.SetDeadline(time.Now().Add(20 * time.Second))
			u.Write(data[:30000])
			got := make([]byte, 1<<16)
			if n, err := u.Read(got); err != nil || !bytes.Equal(got[:n], data[:30000]) {
				t.Errorf("datagram of %d bytes: %v", n, err)
			}
			for _, size := range []int{64, 4000} {
				if err := g.ping(a, size); err != nil {
					t.Errorf("ping of %d bytes: %v", size, err)
				}
			}
		})
	}
	for _, a := range []string{netns.UserGateway4, netns.UserGateway6} {
		if err := g.ping(netip.MustParseAddr(a), 64); err != nil {
			t.Errorf("ping of the gateway %s: %v", a, err)
		}
	}
}

// TestTellsThatPingsAreNotAllowed answers a ping that the host's kernel grants
// nobody.
func TestTellsThatPingsAreNotAllowed(t *testing.T) {
	w := newWorld(t)
	w.pingers("1 0")
	g := w.newGuest()
	for _, a := range worlds {
		if err := g.ping(a, 64); err == nil {
			t.Errorf("%s answered", a)
		}
	}
	stats := g.stack.Stats().ICMP
	if v4, v6 := stats.V4.PacketsReceived.DstUnreachable.Value(), stats.V6.PacketsReceived.DstUnreachable.Value(); v4 != 1 || v6 != 1 {
		t.Errorf("%d and %d messages say why", v4, v6)
	}
}

// TestPublishes reaches a port of the guest at an address of either protocol.
func TestPublishes(t *testing.T) {
	w := newWorld(t)
	g := w.newGuest("--publish", "127.0.0.1:8004=80", "--publish", "[::1]:8006=80", "--publish", "127.0.0.1:8007=81", "--publish", "127.0.0.1:8008=82/udp")
	for _, a := range []tcpip.FullAddress{full(netip.MustParseAddr(netns.UserAddress4), 80), full(netip.MustParseAddr(netns.UserAddress6), 81)} {
		number := tcpip.NetworkProtocolNumber(ipv4.ProtocolNumber)
		if a.Port == 81 {
			number = ipv6.ProtocolNumber
		}
		l, err := gonet.ListenTCP(g.stack, a, number)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go serve(l, echo)
	}
	at := full(netip.MustParseAddr(netns.UserAddress4), 82)
	u, err := gonet.DialUDP(g.stack, &at, nil, ipv4.ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	go answerDatagrams(u)
	for _, host := range []string{"127.0.0.1:8004", "[::1]:8006", "127.0.0.1:8007", "127.0.0.1:8008"} {
		network := "tcp"
		if host == "127.0.0.1:8008" {
			network = "udp"
		}
		err := w.in.Do(func() error {
			c, err := net.DialTimeout(network, host, 10*time.Second)
			if err != nil {
				return err
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(20 * time.Second))
			fmt.Fprint(c, "published")
			got := make([]byte, len("published"))
			_, err = io.ReadFull(c, got)
			if err == nil && string(got) != "published" {
				err = fmt.Errorf("answer %q", got)
			}
			return err
		})
		if err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
}
