package usernet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// patience is how long a listener rests after an error, such as too many
// descriptors.
const patience = 100 * time.Millisecond

// Publish connects who comes to l, which is of TCP, to a port of the guest, over
// IPv4 if something listens there. It returns when l is closed.
func (g *Gateway) Publish(l net.Listener, port uint16) {
	slots := make(chan struct{}, maxFlows)
	for {
		slots <- struct{}{}
		c, err := l.Accept()
		if err != nil {
			<-slots
			if errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(patience)
			continue
		}
		go func() {
			defer func() { <-slots }()
			g.connect(c.(*net.TCPConn), port)
		}()
	}
}

func (g *Gateway) connect(c *net.TCPConn, port uint16) {
	defer c.Close()
	guest, ep, err := g.dialGuest(port)
	if err != nil {
		_ = c.SetLinger(0) // reset
		return
	}
	join(guest, ep, c)
}

// dialGuest connects to a port of the guest.
func (g *Gateway) dialGuest(port uint16) (*gonet.TCPConn, tcpip.Endpoint, error) {
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	var all []error
	for _, a := range guests {
		c, ep, err := g.dialAt(ctx, a, port)
		if err == nil {
			return c, ep, nil
		}
		all = append(all, fmt.Errorf("dial %s: %w", a, err))
	}
	return nil, nil, errors.Join(all...)
}

// dialAt is gonet's own, which keeps the endpoint to itself.
func (g *Gateway) dialAt(ctx context.Context, a netip.Addr, port uint16) (*gonet.TCPConn, tcpip.Endpoint, error) {
	var events waiter.Queue
	ep, terr := g.stack.NewEndpoint(tcp.ProtocolNumber, protocol(a), &events)
	if terr != nil {
		return nil, nil, errors.New(terr.String())
	}
	made, ready := waiter.NewChannelEntry(waiter.WritableEvents)
	events.EventRegister(&made)
	defer events.EventUnregister(&made)
	terr = ep.Connect(tcpip.FullAddress{NIC: nic, Addr: address(a), Port: port})
	if _, begun := terr.(*tcpip.ErrConnectStarted); begun {
		select {
		case <-ready:
			terr = ep.LastError()
		case <-ctx.Done():
			terr = &tcpip.ErrTimeout{}
		}
	}
	if terr != nil {
		ep.Close()
		return nil, nil, errors.New(terr.String())
	}
	return gonet.NewTCPConn(&events, ep), ep, nil
}

// visitors are who sends datagrams to a published port, by their addresses.
type visitors struct {
	gateway *Gateway
	outside net.PacketConn
	port    uint16 // the guest's

	mu    sync.Mutex
	flows map[string]*flow
}

// flow carries one visitor's datagrams to the guest and back: over IPv4, unless the
// guest refuses the first ones there, and over IPv6 then.
type flow struct {
	visitors *visitors
	from     net.Addr

	// mu guards all below.
	mu       sync.Mutex
	guest    int // of guests
	conn     *gonet.UDPConn
	answered bool
	last     []byte // until it is, to be sent again over IPv6
}

// PublishDatagrams carries datagrams that come to c to a port of the guest, and
// back what answers them. It returns when c is closed.
func (g *Gateway) PublishDatagrams(c net.PacketConn, port uint16) {
	v := &visitors{gateway: g, outside: c, port: port, flows: map[string]*flow{}}
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
		if f := v.flow(from); f != nil {
			f.send(p[:n])
		}
	}
}

// flow is nil if there are too many.
func (v *visitors) flow(from net.Addr) *flow {
	v.mu.Lock()
	defer v.mu.Unlock()
	if f := v.flows[from.String()]; f != nil {
		return f
	}
	if len(v.flows) >= maxFlows {
		return nil
	}
	f := &flow{visitors: v, from: from}
	if err := f.dial(); err != nil {
		return nil
	}
	v.flows[from.String()] = f
	go f.answer()
	return f
}

func (v *visitors) forget(f *flow) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.flows, f.from.String())
}

// dial makes the flow's connection to the guest's address that it is at. A refusal
// ends a Read, which for gonet's own connections it does not.
func (f *flow) dial() error {
	a, s := guests[f.guest], f.visitors.gateway.stack
	events := new(waiter.Queue)
	ep, terr := s.NewEndpoint(udp.ProtocolNumber, protocol(a), events)
	if terr != nil {
		return errors.New(terr.String())
	}
	if terr := ep.Connect(tcpip.FullAddress{NIC: nic, Addr: address(a), Port: f.visitors.port}); terr != nil {
		ep.Close()
		return errors.New(terr.String())
	}
	// Who notifies holds the queue's lock.
	refused := waiter.NewFunctionEntry(waiter.EventErr, func(waiter.EventMask) { go events.Notify(waiter.ReadableEvents) })
	events.EventRegister(&refused)
	f.conn = gonet.NewUDPConn(events, ep)
	return f.conn.SetReadDeadline(time.Now().Add(idle))
}

func (f *flow) send(p []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.answered {
		f.last = append(f.last[:0], p...)
	}
	_ = f.conn.SetReadDeadline(time.Now().Add(idle))
	if _, err := f.conn.Write(p); err != nil {
		_ = f.next()
	}
}

// next goes over to the guest's next address. It returns false when there is none,
// or when the guest has answered at this one. The caller holds mu.
func (f *flow) next() bool {
	if f.answered || f.guest+1 == len(guests) {
		return false
	}
	f.guest++
	f.conn.Close()
	if err := f.dial(); err != nil {
		return false
	}
	_, _ = f.conn.Write(f.last)
	return true
}

// answer carries what the guest says, until it is silent for a while or refuses.
func (f *flow) answer() {
	defer f.visitors.forget(f)
	p := make([]byte, maxDatagram)
	for c := f.current(); c != nil; {
		n, err := c.Read(p)
		if err != nil {
			c = f.after(c, err)
			continue
		}
		f.heard()
		_ = c.SetReadDeadline(time.Now().Add(idle))
		_, _ = f.visitors.outside.WriteTo(p[:n], f.from)
	}
}

func (f *flow) current() *gonet.UDPConn {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.conn
}

func (f *flow) heard() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answered, f.last = true, nil
}

// after is the connection that the flow goes on with when reading from c has failed;
// nil if it ends, closed.
func (f *flow) after(c *gonet.UDPConn, err error) *gonet.UDPConn {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c != f.conn { // send has gone over
		return f.conn
	}
	var silence net.Error
	if errors.As(err, &silence) && silence.Timeout() || !f.next() {
		f.conn.Close()
		return nil
	}
	return f.conn
}
