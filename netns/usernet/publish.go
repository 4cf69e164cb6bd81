package usernet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"

	"github.com/microvm/microvm/agent/api"
)

// patience is how long a listener rests after an error, such as too many
// descriptors.
const patience = 100 * time.Millisecond

// Publish connects who comes to l, which is of TCP, to a port of the guest, over
// IPv4 if something listens there. It returns when l is closed.
func (g *Gateway) Publish(l net.Listener, port uint16) {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(patience)
			continue
		}
		go g.connect(c.(*net.TCPConn), port)
	}
}

func (g *Gateway) connect(c *net.TCPConn, port uint16) {
	defer c.Close()
	guest, err := g.dialGuest(port)
	if err != nil {
		_ = c.SetLinger(0) // reset
		return
	}
	defer guest.Close()
	api.Join(c, guest)
}

func (g *Gateway) dialGuest(port uint16) (*gonet.TCPConn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	var all []error
	for _, a := range guests {
		c, err := gonet.DialContextTCP(ctx, g.stack, tcpip.FullAddress{NIC: nic, Addr: address(a), Port: port}, protocol(a))
		if err == nil {
			return c, nil
		}
		all = append(all, fmt.Errorf("dial %s: %w", a, err))
	}
	return nil, errors.Join(all...)
}

// visitors are who sends datagrams to a published port, by their addresses.
type visitors struct {
	outside net.PacketConn
	to      tcpip.FullAddress

	mu    sync.Mutex
	flows map[string]*gonet.UDPConn // to the guest
}

// PublishDatagrams carries datagrams that come to c to a port of the guest over
// IPv4, and back what answers them. It returns when c is closed.
func (g *Gateway) PublishDatagrams(c net.PacketConn, port uint16) {
	v := &visitors{outside: c, to: tcpip.FullAddress{NIC: nic, Addr: address(guests[0]), Port: port}, flows: map[string]*gonet.UDPConn{}}
	p := make([]byte, maxDatagram)
	for {
		n, from, err := c.ReadFrom(p)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(patience)
			continue
		}
		if flow := v.flow(g, from); flow != nil {
			_ = flow.SetReadDeadline(time.Now().Add(idle))
			_, _ = flow.Write(p[:n])
		}
	}
}

// flow is nil if there are too many.
func (v *visitors) flow(g *Gateway, from net.Addr) *gonet.UDPConn {
	v.mu.Lock()
	defer v.mu.Unlock()
	if f := v.flows[from.String()]; f != nil {
		return f
	}
	if len(v.flows) >= maxFlows {
		return nil
	}
	f, err := gonet.DialUDP(g.stack, nil, &v.to, protocol(guests[0]))
	if err != nil {
		return nil
	}
	v.flows[from.String()] = f
	go v.answer(f, from)
	return f
}

// answer carries what the guest says, until it is silent for a while or refuses.
func (v *visitors) answer(f *gonet.UDPConn, to net.Addr) {
	defer f.Close()
	p := make([]byte, maxDatagram)
	for {
		n, err := f.Read(p)
		if err != nil {
			v.mu.Lock()
			defer v.mu.Unlock()
			delete(v.flows, to.String())
			return
		}
		_ = f.SetReadDeadline(time.Now().Add(idle))
		_, _ = v.outside.WriteTo(p[:n], to)
	}
}
