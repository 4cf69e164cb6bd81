package vsock_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// client sends text to the device's socket and returns the connection.
func client(t *testing.T, path, text string) *net.UnixConn {
	t.Helper()
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	writeString(t, c, text)
	return c
}

// answer reads the device's answer up to the end of the stream.
func answer(t *testing.T, c net.Conn) string {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(patience))
	b, err := io.ReadAll(c)
	// Bytes of ours that nobody read make the end an ECONNRESET.
	if err != nil && !errors.Is(err, unix.ECONNRESET) {
		t.Fatalf("read %q, then: %v", b, err)
	}
	return string(b)
}

func TestClientIsConnected(t *testing.T) {
	g := boot(t, linuxLayout())
	// The client does not wait for the answer before it goes on.
	c := client(t, g.serve(), "CONNECT 1024\nearly")
	p := g.expect(opRequest)
	if p.DstPort != 1024 {
		t.Fatalf("guest got %v", p)
	}
	s := &conn{g: g, guest: 1024, host: p.SrcPort, alloc: guestCredit}
	s.send(opResponse)
	s.send(opRW, text("hello"))
	want := fmt.Sprintf("OK %d\nhello", p.SrcPort)
	if got := readN(t, c, len(want)); got != want {
		t.Fatalf("client got %q, want %q", got, want)
	}
	if p := g.expect(opRW); string(p.data) != "early" {
		t.Fatalf("guest got %q", p.data)
	}
}

func TestClientThatDoesNotWait(t *testing.T) {
	g := boot(t, linuxLayout())
	c := client(t, g.serve(), "CONNECT 1024\nall there is")
	c.Close()
	p := g.expect(opRequest)
	s := &conn{g: g, guest: 1024, host: p.SrcPort, alloc: guestCredit}
	s.send(opResponse)
	var got string
	for {
		p := g.receive()
		if p.Op == opRW {
			got += string(p.data)
		}
		if p.Op == opShutdown && p.Flags == shutBoth {
			break
		}
	}
	if got != "all there is" {
		t.Fatalf("guest got %q", got)
	}
}

func TestClientIsRefusedByTheGuest(t *testing.T) {
	g := boot(t, linuxLayout())
	c := client(t, g.serve(), "CONNECT 1\n")
	p := g.expect(opRequest)
	s := &conn{g: g, guest: 1, host: p.SrcPort}
	s.send(opRst)
	if got := answer(t, c); got != "ERR guest refused the connection\n" {
		t.Fatalf("client got %q", got)
	}
}

func TestGuestThatDoesNotAnswer(t *testing.T) {
	l := linuxLayout()
	l.timeout = 50 * time.Millisecond
	g := boot(t, l)
	c := client(t, g.serve(), "CONNECT 1\n")
	if got := answer(t, c); got != "ERR guest did not answer\n" {
		t.Fatalf("client got %q", got)
	}
	p := g.expect(opRequest)
	g.expect(opRst)
	s := &conn{g: g, guest: 1, host: p.SrcPort}
	s.send(opResponse) // too late
	g.expect(opRst)
}

func TestBadLinesAreRefused(t *testing.T) {
	g := boot(t, linuxLayout())
	path := g.serve()
	for _, line := range []string{
		"\n", "CONNECT\n", "CONNECT \n", "connect 1\n", "CONNECT -1\n", "CONNECT +1\n", "CONNECT 1 \n",
		"CONNECT 0x10\n", "CONNECT 4294967296\n", "CONNECT 1\r\n", strings.Repeat("A", 1<<16), "GET / HTTP/1.0\r\n\r\n",
	} {
		if got := answer(t, client(t, path, line)); !strings.HasPrefix(got, "ERR want ") {
			t.Errorf("%.20q was answered %q", line, got)
		}
	}
}

func TestClientThatLeavesBeforeItsLine(t *testing.T) {
	g := boot(t, linuxLayout())
	c := client(t, g.serve(), "CONN")
	c.CloseWrite()
	if got := answer(t, c); !strings.HasPrefix(got, "ERR read line: ") {
		t.Fatalf("client got %q", got)
	}
}

func TestClientOfASleepingDeviceIsRefused(t *testing.T) {
	g := newGuest(t, linuxLayout())
	path := g.serve()
	const want = "ERR guest's vsock driver is not running\n"
	if got := answer(t, client(t, path, "CONNECT 1024\n")); got != want {
		t.Fatalf("client got %q", got)
	}
	g.activate()
	g.refill()
	waiting := client(t, path, "CONNECT 1024\n")
	g.expect(opRequest)
	g.dev.Reset()
	if got := answer(t, waiting); got != want {
		t.Fatalf("client got %q", got)
	}
}

func TestCloseEndsClientsThatSayNothing(t *testing.T) {
	g := boot(t, linuxLayout())
	path := g.serve()
	var silent []net.Conn
	for range 200 { // more than may be greeted at a time
		silent = append(silent, client(t, path, ""))
	}
	g.dev.Close()
	for _, c := range silent {
		answer(t, c)
	}
	if err := g.dev.Close(); err != nil {
		t.Fatal(err)
	}
}
