package main

import (
	"context"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/nested"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/microvm/microvm/netns"
)

// mute is a link that sends nothing of a guest's connections from some ports but their
// end, once.
type mute struct {
	nested.Endpoint

	mu     sync.Mutex
	silent map[uint16]bool // by port: false until the end was sent
}

func newMute(link stack.LinkEndpoint) *mute {
	m := &mute{silent: map[uint16]bool{}}
	m.Init(link, m)
	return m
}

// WritePackets implements stack.LinkEndpoint.
func (m *mute) WritePackets(list stack.PacketBufferList) (int, tcpip.Error) {
	var out stack.PacketBufferList
	for _, p := range list.AsSlice() {
		if p.TransportProtocolNumber != header.TCPProtocolNumber || m.passes(p.TransportHeader().Slice()) {
			out.PushBack(p)
		}
	}
	if out.Len() > 0 {
		if _, err := m.Endpoint.WritePackets(out); err != nil {
			return 0, err
		}
	}
	return list.Len(), nil
}

func (m *mute) passes(segment header.TCP) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	silent, chosen := m.silent[segment.SourcePort()]
	if chosen && !silent && segment.Flags().Contains(header.TCPFlagFin) {
		m.silent[segment.SourcePort()] = true
		return true
	}
	return !chosen
}

// silence begins before the end of a connection.
func (m *mute) silence(port uint16) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.silent[port] = false
}

func (m *mute) speak() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.silent)
}

// TestSilentGuest has a guest leave connections with their last bytes not acknowledged:
// the network keeps them, and so it must not have others for them.
func TestSilentGuest(t *testing.T) {
	w := newWorld(t)
	port := w.generous()
	g := w.newGuest()
	const first, most = 10000, 1 << 10
	silent := 0
	for ; silent < most+most/2; silent++ {
		if err := g.leave(worlds[0], port, first+uint16(silent)); err != nil {
			break
		}
	}
	if silent != most {
		t.Errorf("%d connections are kept, %d are the most", silent, most)
	}
	g.link.speak()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(time.Second) {
		c, err := g.dial(worlds[0], port)
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(end) {
			t.Fatal("the guest speaks again, and can't connect: ", err)
		}
	}
}

// leave makes a connection from a port, ends it and says nothing more from there.
func (g *guest) leave(a netip.Addr, port, from uint16) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := gonet.DialTCPWithBind(ctx, g.stack, full(netip.MustParseAddr(netns.UserAddress4), from), full(a, port), family(a))
	if err != nil {
		return err
	}
	g.t.Cleanup(func() { c.Close() })
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil { // the handshake is over
		return err
	}
	g.link.silence(from)
	return c.CloseWrite()
}

// generous greets who comes, and says more at the end.
func (w *world) generous() (port uint16) {
	w.t.Helper()
	err := w.in.Do(func() error {
		l, err := net.Listen("tcp4", ":0")
		if err != nil {
			return err
		}
		w.t.Cleanup(func() { l.Close() })
		port = l.Addr().(*net.TCPAddr).AddrPort().Port()
		go serve(l, func(c net.Conn) {
			c.Write([]byte{1})
			io.Copy(io.Discard, c)
			c.Write(make([]byte, 10<<10))
		})
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return port
}
