package usernet

import (
	"net"
	"time"

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
