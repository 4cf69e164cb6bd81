package network

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/agent/api"
)

// dialTimeout bounds what comes before the first byte of a connection.
const dialTimeout = 10 * time.Second

// Serve takes the connections of l, which must be of [api.Stream], until l is closed,
// and connects each to where it says in the containers' network, or to who asks
// for names there, see [api.Dial] and [api.ServeNames].
func (n *Network) Serve(l net.Listener) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return fmt.Errorf("accept connection to dial: %w", err)
		}
		if host, ok := c.(api.Stream); ok {
			go n.relay(host)
		} else {
			c.Close()
		}
	}
}

func (n *Network) relay(host api.Stream) {
	defer host.Close()
	host.SetDeadline(time.Now().Add(dialTimeout))
	to, names, err := api.ReadDial(host)
	if err != nil {
		return
	}
	if names {
		n.relayNames(host, to)
		return
	}
	c, err := n.dial(to)
	if err == nil {
		defer c.Close()
	}
	if aerr := api.AnswerDial(host, err); err != nil || aerr != nil {
		return
	}
	host.SetDeadline(time.Time{})
	// The host's is a file, too, whose ways to copy are not for sockets.
	api.Join(struct{ api.Stream }{host}, c)
}

// dial connects within the containers' network: from the address that it
// connects to, as a program there would.
func (n *Network) dial(to netip.AddrPort) (api.Stream, error) {
	ns, err := n.current()
	if err != nil {
		return nil, err
	}
	defer ns.f.Close()
	d := net.Dialer{Timeout: dialTimeout, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(to.Addr(), 0))}
	d.SetMultipathTCP(false)
	var c net.Conn
	err = ns.do(func() (err error) {
		c, err = d.DialContext(context.Background(), "tcp", to.String())
		return err
	})
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// current is a copy of the containers' namespace, which may be replaced.
func (n *Network) current() (namespace, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.copyNamespace()
}

// copyNamespace is current with mu held.
func (n *Network) copyNamespace() (namespace, error) {
	if n.path == "" {
		return openNamespace(thisNamespace)
	}
	fd, err := unix.FcntlInt(n.containers.f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return namespace{}, fmt.Errorf("copy network namespace: %w", err)
	}
	return namespace{os.NewFile(uintptr(fd), "network")}, nil
}
