package usernet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/microvm/microvm/agent/api"
)

// dialTimeout bounds the making of a connection.
const dialTimeout = 30 * time.Second

// serveStreams makes connections of the guest's. One that cannot be made is
// reset.
func (g *Gateway) serveStreams() {
	slots := make(chan struct{}, maxFlows)
	f := tcp.NewForwarder(g.stack, 0, maxFlows, func(r *tcp.ForwarderRequest) {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
			carry(r)
		default:
			r.Complete(true)
		}
	})
	g.stack.SetTransportProtocolHandler(tcp.ProtocolNumber, f.HandlePacket)
}

func carry(r *tcp.ForwarderRequest) {
	there, err := dial("tcp", r.ID())
	if err != nil {
		r.Complete(true)
		return
	}
	defer there.Close()
	var events waiter.Queue
	ep, terr := r.CreateEndpoint(&events)
	r.Complete(terr != nil)
	if terr != nil {
		return
	}
	guest := gonet.NewTCPConn(&events, ep)
	defer guest.Close()
	api.Join(guest, there.(*net.TCPConn))
}

// Publish connects who comes to l to a port of the guest, over IPv4 if something
// listens there. It returns when l is closed.
func (g *Gateway) Publish(l net.Listener, port uint16) error {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil { // such as too many descriptors
			time.Sleep(100 * time.Millisecond)
			continue
		}
		go func() {
			defer c.Close()
			guest, err := g.dialGuest(port)
			if err != nil {
				_ = c.(*net.TCPConn).SetLinger(0) // reset
				return
			}
			defer guest.Close()
			api.Join(c.(*net.TCPConn), guest)
		}()
	}
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
