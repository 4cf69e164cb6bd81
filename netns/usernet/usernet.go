// Package usernet is a network of one machine that needs no rights: what the
// guest sends over Ethernet becomes connections, datagrams and pings of this
// process.
//
// The guest is one host of [netns.UserSubnet4] and [netns.UserSubnet6], whose
// gateway answers for all other addresses. The gateway also serves names. What is
// not global, such as the loopback interface of the host, is not reached.
package usernet

import (
	"errors"
	"fmt"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/fdbased"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"github.com/microvm/microvm/netns"
)

// nic is the stack's only interface.
const nic = 1

// maxFlows is how many connections, flows of datagrams and pings of a guest there
// may be at a time, of each kind; more are refused. So many visitors may a published
// port have.
const maxFlows = 1 << 10

// Gateway answers for the world to a guest.
type Gateway struct {
	stack *stack.Stack
	gone  chan struct{}
}

// New makes the gateway on socket, the descriptor of a SOCK_SEQPACKET socket that
// carries one frame a packet; it stays the caller's. Frames that come before New
// returns may be lost.
func New(socket int) (*Gateway, error) {
	g := &Gateway{gone: make(chan struct{}), stack: stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{arp.NewProtocol, ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6},
	})}
	if err := setUpStreams(g.stack); err != nil {
		return nil, err
	}
	mac, err := tcpip.ParseMACAddress(netns.UserGatewayMAC)
	if err != nil {
		return nil, err
	}
	link, err := fdbased.New(&fdbased.Options{
		FDs: []int{socket}, MTU: netns.UserMTU, EthernetHeader: true, Address: mac,
		ClosedFunc: func(tcpip.Error) { close(g.gone) },
	})
	if err != nil {
		return nil, fmt.Errorf("open socket: %w", err)
	}
	g.serveStreams()
	g.serveDatagrams()
	g.serveEchoes()
	if err := g.attach(newGate(link)); err != nil {
		return nil, err
	}
	return g, g.serveNames()
}

// attach gives the stack its interface, which takes packets to and sends from any
// address.
func (g *Gateway) attach(link stack.LinkEndpoint) error {
	if err := g.stack.CreateNIC(nic, link); err != nil {
		return errors.New(err.String())
	}
	for _, a := range gateways {
		own := tcpip.ProtocolAddress{Protocol: protocol(a), AddressWithPrefix: address(a).WithPrefix()}
		if err := g.stack.AddProtocolAddress(nic, own, stack.AddressProperties{}); err != nil {
			return errors.New(err.String())
		}
	}
	g.stack.SetSpoofing(nic, true)
	g.stack.SetPromiscuousMode(nic, true)
	g.stack.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nic}, {Destination: header.IPv6EmptySubnet, NIC: nic}})
	return nil
}

// Gone is closed when the other end of the socket is.
func (g *Gateway) Gone() <-chan struct{} { return g.gone }

// The network's addresses.
var (
	gateways = []netip.Addr{netip.MustParseAddr(netns.UserGateway4), netip.MustParseAddr(netns.UserGateway6)}
	guests   = []netip.Addr{netip.MustParseAddr(netns.UserAddress4), netip.MustParseAddr(netns.UserAddress6)}
	subnets  = []netip.Prefix{netip.MustParsePrefix(netns.UserSubnet4), netip.MustParsePrefix(netns.UserSubnet6)}
)

// outside tells whether a guest may reach a, which is behind the gateway. An IPv4
// address in the form of IPv6 would be taken for what it is in IPv4.
func outside(a netip.Addr) bool {
	if !a.IsGlobalUnicast() || a.Is4In6() {
		return false
	}
	for _, s := range subnets {
		if s.Contains(a) {
			return false
		}
	}
	return true
}

func protocol(a netip.Addr) tcpip.NetworkProtocolNumber {
	if a.Is4() {
		return ipv4.ProtocolNumber
	}
	return ipv6.ProtocolNumber
}

func address(a netip.Addr) tcpip.Address { return tcpip.AddrFromSlice(a.AsSlice()) }

// addr is the invalid one for an empty address.
func addr(a tcpip.Address) netip.Addr {
	n, _ := netip.AddrFromSlice(a.AsSlice())
	return n
}

// called is where the guest wants to reach somebody.
func called(id stack.TransportEndpointID) netip.AddrPort {
	return netip.AddrPortFrom(addr(id.LocalAddress), id.LocalPort)
}
