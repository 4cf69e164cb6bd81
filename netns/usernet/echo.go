package usernet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
)

const (
	// echoTimeout is when an answer to a ping is not waited for any more.
	echoTimeout = 10 * time.Second
	// Offsets in a message of ICMP.
	identOffset    = 4
	sequenceOffset = 6
	echoHead       = 8
	// quoted is how much of a ping is in the message that it cannot be sent.
	quoted = 512
)

// echo is a ping of the guest.
type echo struct {
	guest, to netip.Addr
	// header is that of IP, message all of ICMP.
	header, message []byte
}

// serveEchoes sends the guest's pings from sockets that need no rights, if the
// kernel grants them (net.ipv4.ping_group_range).
func (g *Gateway) serveEchoes() {
	slots := make(chan struct{}, maxFlows)
	handle := func(id stack.TransportEndpointID, p *stack.PacketBuffer) bool {
		e := &echo{
			guest: addr(id.RemoteAddress), to: addr(id.LocalAddress),
			header: slices.Clone(p.NetworkHeader().Slice()), message: slices.Concat(p.TransportHeader().Slice(), p.Data().AsRange().ToSlice()),
		}
		if len(e.message) < echoHead || !outside(e.to) {
			return true
		}
		e.message[0] = request(protocol(e.to))
		select {
		case slots <- struct{}{}:
			go func() {
				defer func() { <-slots }()
				g.ping(e)
			}()
		default:
		}
		return true
	}
	g.stack.SetTransportProtocolHandler(icmp.ProtocolNumber4, handle)
	g.stack.SetTransportProtocolHandler(icmp.ProtocolNumber6, handle)
}

// ping gives the guest the answer to e, or says why there is none.
func (g *Gateway) ping(e *echo) {
	got, err := e.ask()
	switch {
	case err == nil:
		g.send(e.to, e.guest, got)
	case !errors.Is(err, os.ErrDeadlineExceeded):
		from := gateways[0]
		if e.to.Is6() {
			from = gateways[1]
		}
		g.send(from, e.guest, e.unreachable(err))
	}
}

func (e *echo) ask() ([]byte, error) {
	c, err := pingSocket(e.to)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(echoTimeout)); err != nil {
		return nil, err
	}
	if _, err := c.Write(e.message); err != nil {
		return nil, err
	}
	got := make([]byte, 1<<16)
	for {
		n, err := c.Read(got)
		if err != nil {
			return nil, err
		}
		if n >= echoHead && got[0] == answer(protocol(e.to)) && slices.Equal(got[sequenceOffset:echoHead], e.message[sequenceOffset:echoHead]) {
			copy(got[identOffset:], e.message[identOffset:sequenceOffset]) // the socket has its own
			return got[:n], nil
		}
	}
}

// pingSocket is one that sends requests to a and gets what answers them, see
// icmp(7).
func pingSocket(a netip.Addr) (net.Conn, error) {
	family, protocol, to := unix.AF_INET6, unix.IPPROTO_ICMPV6, unix.Sockaddr(&unix.SockaddrInet6{Addr: a.As16()})
	if a.Is4() {
		family, protocol, to = unix.AF_INET, unix.IPPROTO_ICMP, &unix.SockaddrInet4{Addr: a.As4()}
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return nil, fmt.Errorf("make socket for pings: %w", err)
	}
	f := os.NewFile(uintptr(fd), "ping")
	defer f.Close()
	if err := unix.Connect(fd, to); err != nil {
		return nil, fmt.Errorf("ping %s: %w", a, err)
	}
	return net.FileConn(f)
}

// unreachable is the message that says why e was not sent (RFC 792 and 4443).
func (e *echo) unreachable(why error) []byte {
	kind, code := byte(header.ICMPv4DstUnreachable), byte(header.ICMPv4HostUnreachable)
	noRoute, prohibited := byte(header.ICMPv4NetUnreachable), byte(header.ICMPv4AdminProhibited)
	if e.to.Is6() {
		kind, code = byte(header.ICMPv6DstUnreachable), byte(header.ICMPv6AddressUnreachable)
		noRoute, prohibited = byte(header.ICMPv6NetworkUnreachable), byte(header.ICMPv6Prohibited)
	}
	switch {
	case errors.Is(why, unix.EACCES) || errors.Is(why, unix.EPERM):
		code = prohibited
	case errors.Is(why, unix.ENETUNREACH) || errors.Is(why, unix.EAFNOSUPPORT) || errors.Is(why, unix.EADDRNOTAVAIL):
		code = noRoute
	}
	m := append([]byte{kind, code, 0, 0, 0, 0, 0, 0}, e.header...)
	m = append(m, e.message...)
	return m[:min(len(m), quoted)]
}

// send sends the guest a message of ICMP, whose checksum it fills in.
func (g *Gateway) send(from, to netip.Addr, message []byte) {
	route, err := g.stack.FindRoute(nic, address(from), address(to), protocol(from), false)
	if err != nil {
		return
	}
	defer route.Release()
	var sum uint16
	number := icmp.ProtocolNumber4
	if from.Is6() {
		number = icmp.ProtocolNumber6
		sum = header.PseudoHeaderChecksum(number, address(from), address(to), uint16(len(message)))
	}
	binary.BigEndian.PutUint16(message[2:], 0)
	binary.BigEndian.PutUint16(message[2:], ^checksum.Checksum(message, sum))
	p := stack.NewPacketBuffer(stack.PacketBufferOptions{
		ReserveHeaderBytes: int(route.MaxHeaderLength()), Payload: buffer.MakeWithData(message),
	})
	defer p.DecRef()
	_ = route.WritePacket(stack.NetworkHeaderParams{Protocol: number, TTL: ttl}, p)
}

// ttl is that of a host's own packets.
const ttl = ipv4.DefaultTTL
