package usernet

import (
	"fmt"
	"net"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

const (
	// idle is when a flow of datagrams is forgotten (RFC 4787, REQ-5).
	idle = 2 * time.Minute
	// maxDatagram is the largest one of UDP.
	maxDatagram = 1<<16 - 1
)

// dial makes the connection, or the flow, that the guest wants.
func dial(network string, id stack.TransportEndpointID) (net.Conn, error) {
	to := called(id)
	if !outside(to.Addr()) {
		return nil, fmt.Errorf("dial %s: not outside of the guest's network", to)
	}
	d := net.Dialer{Timeout: dialTimeout}
	d.SetMultipathTCP(false)
	return d.Dial(network, to.String())
}

// serveDatagrams carries datagrams from a port of the guest to one elsewhere, and
// those that come from there.
func (g *Gateway) serveDatagrams() {
	slots := make(chan struct{}, maxFlows)
	f := udp.NewForwarder(g.stack, func(r *udp.ForwarderRequest) {
		select {
		case slots <- struct{}{}:
		default:
			return
		}
		free := func() { <-slots }
		there, err := dial("udp", r.ID())
		if err != nil {
			free()
			return
		}
		var events waiter.Queue
		ep, terr := r.CreateEndpoint(&events)
		if terr != nil {
			there.Close()
			free()
			return
		}
		go func() {
			defer free()
			exchange(gonet.NewUDPConn(&events, ep), there)
		}()
	})
	g.stack.SetTransportProtocolHandler(udp.ProtocolNumber, f.HandlePacket)
}

// exchange carries datagrams both ways until there are none for a while, or one
// is refused, and closes both.
func exchange(a, b net.Conn) {
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
		both.Go(func() {
			defer a.Close()
			defer b.Close()
			p := make([]byte, maxDatagram)
			for {
				n, err := way[0].Read(p)
				if err != nil {
					return
				}
				_ = a.SetReadDeadline(time.Now().Add(idle))
				_ = b.SetReadDeadline(time.Now().Add(idle))
				if _, err := way[1].Write(p[:n]); err != nil {
					return
				}
			}
		})
	}
	both.Wait()
}
