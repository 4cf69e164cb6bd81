package network

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/agent/api"
)

// unixPair is a connection and its other end.
func unixPair(t *testing.T) (ours, theirs *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "end")
		c, err := net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		ends[i] = c.(*net.UnixConn)
		t.Cleanup(func() { c.Close() })
	}
	return ends[0], ends[1]
}

// namesOf starts Names for a server, and returns the guest's end.
func namesOf(t *testing.T, server netip.AddrPort) (*Names, *net.UnixConn) {
	t.Helper()
	ours, guest := unixPair(t)
	log := logrus.New()
	log.SetOutput(io.Discard)
	n := &Names{
		Server: server, Log: logrus.NewEntry(log),
		Open: func(context.Context, netip.AddrPort) (*net.UnixConn, error) { return ours, nil },
	}
	if err := n.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	guest.SetDeadline(time.Now().Add(10 * time.Second))
	return n, guest
}

func TestNamesAreAsked(t *testing.T) {
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	go func() {
		p := make([]byte, 512)
		for {
			n, from, err := server.ReadFrom(p)
			if err != nil {
				return
			}
			server.WriteTo(append([]byte("answer to "), p[:n]...), from)
		}
	}()
	n, guest := namesOf(t, server.LocalAddr().(*net.UDPAddr).AddrPort())
	defer n.Close()
	const questions = 200 // more than are asked at a time
	go func() {
		for i := range questions {
			m := api.NameMessage{ID: uint32(i), Message: fmt.Appendf(nil, "%d", i)}
			m.Write(guest)
		}
	}()
	seen := map[uint32]bool{}
	for range questions {
		var m api.NameMessage
		if err := m.Read(guest); err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("answer to %d", m.ID); string(m.Message) != want || seen[m.ID] {
			t.Errorf("%d is answered with %q", m.ID, m.Message)
		}
		seen[m.ID] = true
	}
}

// TestNamesEnd ends while nobody answers, and while the guest takes no answer.
func TestNamesEnd(t *testing.T) {
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	n, guest := namesOf(t, silent.LocalAddr().(*net.UDPAddr).AddrPort())
	go func() {
		for i := range 10 * maxQuestions {
			m := api.NameMessage{ID: uint32(i), Message: []byte("anybody?")}
			if m.Write(guest) != nil {
				return
			}
		}
	}()
	time.Sleep(50 * time.Millisecond) // not needed, but then some are asked
	began := time.Now()
	n.Close()
	if took := time.Since(began); took > nameTimeout/2 {
		t.Errorf("the end took %v", took)
	}
}
