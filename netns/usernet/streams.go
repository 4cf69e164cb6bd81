package usernet

import (
	"errors"
	"net"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/microvm/microvm/agent/api"
)

const (
	// dialTimeout bounds the making of a connection.
	dialTimeout = 30 * time.Second
	// window is how much of a connection waits in each direction, in bytes. The guest is
	// near: more makes nothing faster, and is memory of the host's.
	window = 256 << 10
	// timeWait is how long a connection is remembered that the guest has closed last:
	// nothing of it can still be on the way.
	timeWait = 100 * time.Millisecond
)

// setUpStreams bounds what the stack keeps of each connection.
func setUpStreams(s *stack.Stack) error {
	sack, wait := tcpip.TCPSACKEnabled(true), tcpip.TCPTimeWaitTimeoutOption(timeWait)
	for _, o := range []tcpip.SettableTransportProtocolOption{
		&sack, &wait,
		&tcpip.TCPSendBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: window, Max: window},
		&tcpip.TCPReceiveBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: window, Max: window},
	} {
		if err := s.SetTransportProtocolOption(tcp.ProtocolNumber, o); err != nil {
			return errors.New(err.String())
		}
	}
	return nil
}

// serveStreams makes connections of the guest's. One that cannot be made is
// reset.
func (g *Gateway) serveStreams() {
	slots := make(chan struct{}, maxFlows)
	f := tcp.NewForwarder(g.stack, window, maxFlows, func(r *tcp.ForwarderRequest) {
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
	join(gonet.NewTCPConn(&events, ep), ep, there.(*net.TCPConn))
}

// join carries what two ends of a connection say to each other, and returns when both are
// closed and nothing is kept of guest, of endpoint ep, any more: a guest that does not
// take the last of it must not have more connections for that.
func join(guest *gonet.TCPConn, ep tcpip.Endpoint, there *net.TCPConn) {
	api.Join(guest, there)
	there.Close()
	guest.Close()
	if e, ok := ep.(stack.TransportEndpoint); ok {
		e.Wait()
	}
}
