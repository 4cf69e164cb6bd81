package api

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
)

// ErrProtocol says that the agent broke the rules of ttrpc.
var ErrProtocol = errors.New("the agent broke the protocol")

// guard is a connection to an agent that ends when the agent says what nobody asked
// for. The client behind it would only log that, each time.
type guard struct {
	net.Conn
	in frames // only the reader's

	mu     sync.Mutex
	out    frames
	asked  map[uint32]bool // streams whose answer has not come
	broken error
}

func newGuard(c net.Conn) *guard { return &guard{Conn: c, asked: map[uint32]bool{}} }

// Read implements net.Conn.
func (g *guard) Read(p []byte) (int, error) {
	n, err := g.Conn.Read(p)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.broken == nil {
		g.broken = g.in.feed(p[:n], g.answer)
	}
	if g.broken != nil {
		g.Conn.Close()
		return 0, g.broken
	}
	return n, err
}

// Write implements net.Conn.
func (g *guard) Write(p []byte) (int, error) {
	g.mu.Lock()
	err := g.out.feed(p, func(h frame) error {
		g.asked[h.stream] = true
		return nil
	})
	g.mu.Unlock()
	if err != nil {
		return 0, err
	}
	return g.Conn.Write(p)
}

// answer checks what the agent begins to send. The lock is held.
func (g *guard) answer(h frame) error {
	if h.kind != frameResponse || !g.asked[h.stream] {
		return fmt.Errorf("%w: message of type %d on stream %d, which does not wait for one", ErrProtocol, h.kind, h.stream)
	}
	delete(g.asked, h.stream)
	return nil
}

// Of ttrpc (PROTOCOL.md).
const (
	frameHeader   = 10      // length, stream, type, flags
	frameResponse = 2       // type of a response
	mostFrame     = 4 << 20 // bytes behind the header
)

// frame is a message's header.
type frame struct {
	length, stream uint32
	kind           byte
}

// frames finds the headers in one direction of a connection.
type frames struct {
	header [frameHeader]byte
	have   int    // bytes of it
	left   uint32 // bytes of the message behind it
}

// feed takes the next bytes and calls each for headers in them.
func (f *frames) feed(p []byte, each func(frame) error) error {
	for len(p) > 0 {
		if f.left > 0 {
			n := min(uint64(f.left), uint64(len(p)))
			f.left -= uint32(n)
			p = p[n:]
			continue
		}
		n := copy(f.header[f.have:], p)
		f.have += n
		p = p[n:]
		if f.have < frameHeader {
			return nil
		}
		h := frame{binary.BigEndian.Uint32(f.header[:]), binary.BigEndian.Uint32(f.header[4:]), f.header[8]}
		f.have, f.left = 0, h.length
		if h.length > mostFrame {
			return fmt.Errorf("%w: message of %d bytes, %d are the most", ErrProtocol, h.length, mostFrame)
		}
		if err := each(h); err != nil {
			return err
		}
	}
	return nil
}
