package vsock_test

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/vmm/virtio/vsock"
)

func TestResetInTheMiddle(t *testing.T) {
	g := boot(t, linuxLayout())
	var hosts []*net.UnixConn
	for i := range uint32(20) {
		c, host := g.open(100 + i)
		c.sendUntilFull()
		hosts = append(hosts, host)
	}
	for _, host := range hosts {
		go host.Write(make([]byte, 1<<20))
	}
	waiting, theirs := socketpair(t)
	if err := g.dev.Connect(9, theirs); err != nil {
		t.Fatal(err)
	}
	g.dev.Reset()
	for _, host := range append(hosts, waiting) {
		host.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, host); err != nil && !errors.Is(err, unix.ECONNRESET) {
			t.Fatal(err)
		}
	}
	late, theirs := socketpair(t)
	if err := g.dev.Connect(9, theirs); !errors.Is(err, vsock.ErrInactive) {
		t.Fatalf("connect to a reset device: %v", err)
	}
	if got := readAll(t, late); got != "" {
		t.Fatalf("got %q", got)
	}
	g.dev.Reset() // a second time changes nothing
}

func TestManyResets(t *testing.T) {
	for range 50 {
		g := newGuest(t, linuxLayout())
		g.activate()
		g.refill()
		_, host := g.open(7)
		writeString(t, host, "x")
		g.dev.Reset()
	}
}
