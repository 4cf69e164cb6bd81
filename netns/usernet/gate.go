package usernet

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/nested"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// gate is a link that keeps the stack from answering pings to others than the
// gateway itself, as it would for any address that it takes packets to: their
// type becomes that of an answer, which the stack puts together from fragments
// and hands to [Gateway.serveEchoes].
type gate struct{ nested.Endpoint }

func newGate(link stack.LinkEndpoint) *gate {
	g := &gate{}
	g.Init(link, g)
	return g
}

// DeliverNetworkPacket implements stack.NetworkDispatcher.
func (g *gate) DeliverNetworkPacket(protocol tcpip.NetworkProtocolNumber, p *stack.PacketBuffer) {
	message, to := echoOf(protocol, p)
	switch {
	case message == nil || slices.Contains(gateways, to):
	case message[0] == request(protocol):
		retype(message, answer(protocol))
	case message[0] == answer(protocol):
		return // to nothing that was asked
	}
	g.Endpoint.DeliverNetworkPacket(protocol, p)
}

// icmpHead is how much of a message of ICMP is looked at: type, code and
// checksum.
const icmpHead = 4

// echoOf is the beginning of a message of ICMP, in p itself, and where it goes
// to; nil for all else and for later fragments of one.
func echoOf(protocol tcpip.NetworkProtocolNumber, p *stack.PacketBuffer) (message []byte, to netip.Addr) {
	var head int
	switch protocol {
	case ipv4.ProtocolNumber:
		b, ok := p.Data().PullUp(header.IPv4MinimumSize)
		if !ok || b[9] != byte(header.ICMPv4ProtocolNumber) || header.IPv4(b).FragmentOffset() != 0 {
			return nil, to
		}
		head, to = int(header.IPv4(b).HeaderLength()), addr(header.IPv4(b).DestinationAddress())
	case ipv6.ProtocolNumber:
		b, ok := p.Data().PullUp(header.IPv6MinimumSize)
		if !ok {
			return nil, to
		}
		head, to = header.IPv6MinimumSize, addr(header.IPv6(b).DestinationAddress())
		next := header.IPv6(b).NextHeader()
		if next == uint8(header.IPv6FragmentHeader) {
			if b, ok = p.Data().PullUp(head + header.IPv6FragmentHeaderSize); !ok || binary.BigEndian.Uint16(b[head+2:])>>3 != 0 {
				return nil, to
			}
			next = b[head]
			head += header.IPv6FragmentHeaderSize
		}
		if next != uint8(header.ICMPv6ProtocolNumber) {
			return nil, to
		}
	default:
		return nil, to
	}
	b, ok := p.Data().PullUp(head + icmpHead)
	if !ok {
		return nil, to
	}
	return b[head:], to
}

func request(protocol tcpip.NetworkProtocolNumber) byte {
	if protocol == ipv4.ProtocolNumber {
		return byte(header.ICMPv4Echo)
	}
	return byte(header.ICMPv6EchoRequest)
}

func answer(protocol tcpip.NetworkProtocolNumber) byte {
	if protocol == ipv4.ProtocolNumber {
		return byte(header.ICMPv4EchoReply)
	}
	return byte(header.ICMPv6EchoReply)
}

// retype changes a message's type, and its checksum with it (RFC 1624).
func retype(message []byte, to byte) {
	sum := ^binary.BigEndian.Uint16(message[2:])
	sum = checksum.Combine(sum, ^(uint16(message[0]) << 8))
	sum = checksum.Combine(sum, uint16(to)<<8)
	message[0] = to
	binary.BigEndian.PutUint16(message[2:], ^sum)
}
