package process

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/microvm/microvm/agent/api"
)

// listen serves a Streams; connect reaches it.
func listen(t *testing.T) (s *Streams, connect func(id string) net.Conn) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s = NewStreams()
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(l) }()
	t.Cleanup(func() { l.Close(); s.Close(); <-done })
	return s, func(id string) net.Conn {
		c, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetReadDeadline(time.Now().Add(30 * time.Second))
		if _, err := c.Write([]byte("STREAM " + id + "\n")); err != nil {
			t.Fatal(err)
		}
		return c
	}
}

// passes checks that a byte gets from one end to the other.
func passes(t *testing.T, from, to net.Conn) {
	t.Helper()
	b := []byte{1}
	if _, err := from.Write([]byte{42}); err != nil {
		t.Fatal(err)
	}
	if _, err := to.Read(b); err != nil || b[0] != 42 {
		t.Errorf("got %d, %v", b[0], err)
	}
}

func TestClaimBeforeAndAfterArrival(t *testing.T) {
	s, connect := listen(t)
	host := connect("early")
	guest, err := s.claim(t.Context(), api.StreamURL("early"))
	if err != nil {
		t.Fatal(err)
	}
	defer guest.Close()
	passes(t, host, guest)

	claimed := make(chan api.Stream)
	go func() {
		g, err := s.claim(context.Background(), api.StreamURL("late"))
		if err != nil {
			t.Error(err)
		}
		claimed <- g
	}()
	host = connect("late")
	guest = <-claimed
	defer guest.Close()
	passes(t, guest, host)
}

func TestStreamsRefused(t *testing.T) {
	s, connect := listen(t)
	if _, err := s.claim(t.Context(), "file:///etc/passwd"); !errors.Is(err, ErrInvalid) {
		t.Errorf("claim of no stream: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.claim(ctx, api.StreamURL("never")); !errors.Is(err, ErrNotFound) {
		t.Errorf("claim of what does not come: %v", err)
	}
	first := connect("twice")
	for parked := false; !parked; time.Sleep(time.Millisecond) {
		s.mu.Lock()
		_, parked = s.parked["twice"]
		s.mu.Unlock()
	}
	second := connect("twice")
	bad := connect("a/b")
	for _, c := range []net.Conn{second, bad} {
		if n, err := c.Read(make([]byte, 1)); err == nil {
			t.Errorf("read %d bytes from a refused stream", n)
		}
	}
	guest, err := s.claim(t.Context(), api.StreamURL("twice"))
	if err != nil {
		t.Fatal(err)
	}
	defer guest.Close()
	passes(t, first, guest)
}

func TestCloseEndsParked(t *testing.T) {
	s, connect := listen(t)
	c := connect("x")
	s.Close()
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("a parked stream is still open")
	}
	if _, err := s.claim(t.Context(), api.StreamURL("y")); err == nil {
		t.Error("claim after close")
	}
}
