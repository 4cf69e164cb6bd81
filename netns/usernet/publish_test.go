package usernet

import (
	"net"
	"net/netip"
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
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"github.com/microvm/microvm/netns"
)

// newGuest is a gateway, and the stack of a guest at its other end.
func newGuest(t *testing.T) (*Gateway, *stack.Stack) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	gateway, err := New(fds[0])
	if err != nil {
		t.Fatal(err)
	}
	link, err := fdbased.New(&fdbased.Options{FDs: []int{fds[1]}, MTU: netns.UserMTU, EthernetHeader: true, Address: tcpip.LinkAddress("\x02\x00\x00\x00\x00\x01")})
	if err != nil {
		t.Fatal(err)
	}
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{arp.NewProtocol, ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6},
	})
	if err := s.CreateNIC(nic, link); err != nil {
		t.Fatal(err)
	}
	for i, a := range guests {
		own := tcpip.ProtocolAddress{Protocol: protocol(a), AddressWithPrefix: tcpip.AddressWithPrefix{Address: address(a), PrefixLen: subnets[i].Bits()}}
		if err := s.AddProtocolAddress(nic, own, stack.AddressProperties{}); err != nil {
			t.Fatal(err)
		}
	}
	s.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nic}, {Destination: header.IPv6EmptySubnet, NIC: nic}})
	t.Cleanup(func() {
		unix.Shutdown(fds[0], unix.SHUT_RDWR)
		unix.Shutdown(fds[1], unix.SHUT_RDWR)
		s.Destroy()
		<-gateway.Gone()
	})
	return gateway, s
}

// echoes has the guest answer each datagram to an address.
func echoes(t *testing.T, s *stack.Stack, a netip.Addr, port uint16) {
	t.Helper()
	c, err := gonet.DialUDP(s, &tcpip.FullAddress{NIC: nic, Addr: address(a), Port: port}, nil, protocol(a))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		p := make([]byte, maxDatagram)
		for {
			n, from, err := c.ReadFrom(p)
			if err != nil {
				return
			}
			_, _ = c.WriteTo(append([]byte(a.String()+" "), p[:n]...), from)
		}
	}()
}

// TestPublishedDatagrams reach a program in the guest that listens at one of its
// addresses only, whichever it is, from the first one on.
func TestPublishedDatagrams(t *testing.T) {
	for _, a := range guests {
		t.Run(a.String(), func(t *testing.T) {
			gateway, s := newGuest(t)
			echoes(t, s, a, 5353)
			outside, err := net.ListenPacket("udp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer outside.Close()
			go gateway.PublishDatagrams(outside, 5353)
			visitor, err := net.Dial("udp", outside.LocalAddr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer visitor.Close()
			_ = visitor.SetDeadline(time.Now().Add(time.Minute))
			for _, question := range []string{"one", "two", "three"} {
				p := make([]byte, 100)
				_, err := visitor.Write([]byte(question))
				if err == nil {
					var n int
					n, err = visitor.Read(p)
					p = p[:n]
				}
				if want := a.String() + " " + question; err != nil || string(p) != want {
					t.Fatalf("got %q, not %q: %v", p, want, err)
				}
			}
		})
	}
}
