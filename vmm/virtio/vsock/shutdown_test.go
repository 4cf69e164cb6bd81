package vsock_test

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

func TestHostHalfCloses(t *testing.T) {
	g := boot(t, linuxLayout())
	c, host := g.open(7)
	writeString(t, host, "last words")
	host.CloseWrite()
	if p := g.expect(opRW); string(p.data) != "last words" {
		t.Fatalf("guest got %q", p.data)
	}
	if p := g.expect(opShutdown); p.Flags != shutSend {
		t.Fatalf("guest got %v, want a shutdown of sending", p)
	}
	c.send(opRW, text("still "))
	c.send(opRW, text("here"))
	c.send(opShutdown, flags(shutBoth))
	if got := readAll(t, host); got != "still here" {
		t.Fatalf("host got %q", got)
	}
	g.expect(opRst)
}

func TestGuestHalfCloses(t *testing.T) {
	g := boot(t, linuxLayout())
	c, host := g.open(7)
	c.send(opRW, text("last words"))
	c.send(opShutdown, flags(shutSend))
	if got := readAll(t, host); got != "last words" {
		t.Fatalf("host got %q", got)
	}
	writeString(t, host, "still here")
	if p := g.expect(opRW); string(p.data) != "still here" {
		t.Fatalf("guest got %q", p.data)
	}
	host.Close()
	if p := g.expect(opShutdown); p.Flags != shutBoth {
		t.Fatalf("guest got %v, want a full shutdown", p)
	}
	// The stream is forgotten: what comes late is that of a stranger.
	c.send(opCreditUpdate)
	g.expect(opRst)
}

func TestGuestStopsReading(t *testing.T) {
	g := boot(t, linuxLayout())
	c, host := g.open(7)
	c.send(opShutdown, flags(shutReceive))
	eventually(t, "host's write fails", func() bool {
		_, err := host.Write([]byte("x"))
		return errors.Is(err, unix.EPIPE)
	})
	c.send(opRW, text("but speaks"))
	c.send(opShutdown, flags(shutSend))
	if got := readAll(t, host); got != "but speaks" {
		t.Fatalf("host got %q", got)
	}
	g.expect(opRst)
}

func TestHostStopsReading(t *testing.T) {
	g := boot(t, linuxLayout())
	c, host := g.open(7)
	host.CloseRead()
	c.send(opRW, text("unheard"))
	if p := g.expect(opShutdown); p.Flags != shutReceive {
		t.Fatalf("guest got %v, want a shutdown of receiving", p)
	}
	c.send(opRW, text("on its way when the shutdown came"))
	writeString(t, host, "question")
	if p := g.expect(opRW); string(p.data) != "question" {
		t.Fatalf("guest got %q", p.data)
	}
	host.CloseWrite()
	if p := g.expect(opShutdown); p.Flags != shutBoth {
		t.Fatalf("guest got %v, want a full shutdown", p)
	}
}

func TestHostClosesAfterWriting(t *testing.T) {
	g := boot(t, linuxLayout())
	_, host := g.open(7)
	writeString(t, host, "all of it")
	host.Close()
	if p := g.expect(opRW); string(p.data) != "all of it" {
		t.Fatalf("guest got %q", p.data)
	}
	p := g.expect(opShutdown)
	if p.Flags == shutSend { // the end of the bytes was seen before the hang-up
		p = g.expect(opShutdown)
	}
	if p.Flags != shutBoth {
		t.Fatalf("guest got %v, want a full shutdown", p)
	}
}

func TestHostHalfClosesThenGoes(t *testing.T) {
	g := boot(t, linuxLayout())
	_, host := g.open(7)
	host.CloseWrite()
	if p := g.expect(opShutdown); p.Flags != shutSend {
		t.Fatalf("guest got %v", p)
	}
	host.Close()
	if p := g.expect(opShutdown); p.Flags != shutBoth {
		t.Fatalf("guest got %v, want a full shutdown", p)
	}
}

// The guest closes without having read all: the host still reads an end of
// file after the guest's last byte, not an error.
func TestGuestClosesWithoutReading(t *testing.T) {
	g := boot(t, linuxLayout())
	c, host := g.openWith(7, 0)
	writeString(t, host, "nobody reads this")
	c.send(opRW, text("bye"))
	c.send(opShutdown, flags(shutBoth))
	if got := readAll(t, host); got != "bye" {
		t.Fatalf("host got %q", got)
	}
	g.expect(opRst)
}

func TestGuestResetsAStream(t *testing.T) {
	g := boot(t, linuxLayout())
	c, host := g.open(7)
	c.send(opRW, text("sent before"))
	c.send(opRst)
	if got := readAll(t, host); got != "sent before" {
		t.Fatalf("host got %q", got)
	}
	c.send(opRW, text("sent after")) // a stranger's now
	g.expect(opRst)
}

// A guest that has closed resets after a while when the host does not read;
// what it sent before must still arrive.
func TestResetAfterShutdownLosesNothing(t *testing.T) {
	g := boot(t, linuxLayout())
	c, host := g.open(7)
	sent := c.sendUntilFull()
	c.send(opShutdown, flags(shutBoth))
	c.send(opRst)
	// The same ports again, while the old stream's bytes still wait.
	c.send(opRequest)
	g.expect(opRst)
	if got := readAll(t, host); got != string(sent) {
		t.Fatalf("host got %d bytes, want %d", len(got), len(sent))
	}
}
