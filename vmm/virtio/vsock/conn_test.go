package vsock_test

import (
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// conn is one stream as a test drives it by hand.
type conn struct {
	g           *guest
	guest, host uint32
	alloc       uint32 // the guest's credit, sent with every packet
}

// open connects a host socket to the guest and answers for the guest.
func (g *guest) open(port uint32) (*conn, *net.UnixConn) {
	g.t.Helper()
	return g.openWith(port, guestCredit)
}

// openWith is open with the given credit for the host.
func (g *guest) openWith(port, alloc uint32) (*conn, *net.UnixConn) {
	g.t.Helper()
	mine, theirs := socketpair(g.t)
	if err := g.dev.Connect(port, theirs); err != nil {
		g.t.Fatal(err)
	}
	p := g.expect(opRequest)
	if p.DstPort != port {
		g.t.Fatalf("request %v, want port %d", p, port)
	}
	c := &conn{g: g, guest: port, host: p.SrcPort, alloc: alloc}
	c.send(opResponse)
	return c, mine
}

func socketpair(t testing.TB) (a, b *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var conns [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socketpair")
		c, err := net.FileConn(f)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		conns[i] = c.(*net.UnixConn)
		t.Cleanup(func() { c.Close() })
	}
	return conns[0], conns[1]
}
