// Package vhostuser is the back end of the vhost-user protocol (QEMU's
// docs/interop/vhost-user.rst): it serves one virtio.Device to a virtual
// machine in another process, the front end, over a connected unix socket.
//
// The front end is not trusted, since a guest may have taken it over: a message
// against the protocol ends the connection with an error that wraps
// ErrProtocol, and rings are checked as anywhere else.
//
// A device gets all its queues at once, while the front end starts and enables
// ring by ring. So the device is active exactly while at least one ring is
// started and every started ring is enabled, or, if Options say so, with those
// that are; whatever changes a ring or the memory in between resets the device
// first. Requests that were in flight then are lost, as at any reset; front ends
// change nothing while the guest's driver is up, but for how many pairs of queues
// of a network device it uses.
package vhostuser

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/vmm/virtio"
)

// Options adapt a Server to its front end.
type Options struct {
	// Fail is told when the device can't go on: a broken ring, or a fault of
	// the host. The connection stays up. It may be called from any goroutine
	// and more than once. May be nil.
	Fail func(error)
	// NoConfig hides that configuration space can be read from here, for
	// front ends that keep it themselves and complain.
	NoConfig bool
	// Partial has the device run on the rings that are enabled even if others
	// are only started, as those of a network device are whose driver uses fewer
	// pairs of queues than there are.
	Partial bool
}

// Server serves one device on one connection.
type Server struct {
	dev  virtio.Device
	opts Options
	conn *conn

	// All below belongs to the goroutine in Serve.

	features uint64 // acknowledged
	protocol uint64 // acknowledged
	rings    []*vring
	table    *memTable

	// active is the table that the active device works on, nil while it is
	// reset. It may be older than table.
	active *memTable
	// failed keeps a device that could not be activated from being tried
	// again before something changes.
	failed bool
}

// New makes a server for dev on f, a connected stream socket, which it takes
// over. The device belongs to the server until Serve returns.
func New(f *os.File, dev virtio.Device, opts Options) (*Server, error) {
	c, err := openConn(f)
	if err != nil {
		return nil, err
	}
	s := newServer(dev, opts)
	s.conn = c
	return s, nil
}

func newServer(dev virtio.Device, opts Options) *Server {
	if opts.Fail == nil {
		opts.Fail = func(error) {}
	}
	s := &Server{dev: dev, opts: opts}
	for range dev.QueueSizes() {
		s.rings = append(s.rings, &vring{})
	}
	return s
}

// Serve answers the front end until it hangs up or Close is called, and then
// returns nil; or until it breaks the protocol. When it returns, the device is
// reset, the guest's memory unmapped and every descriptor closed.
func (s *Server) Serve() error {
	defer s.cleanUp()
	for {
		m, err := s.conn.receive()
		if err == nil {
			err = s.serveOne(m)
		}
		if hungUp(err) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// hungUp says that err is the end of a connection, by either side: a front end
// that dies with a reply unread gives a reset, not an end of file.
func hungUp(err error) bool {
	return err == io.EOF || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE)
}

// Close makes Serve return soon; it does not wait for it. It may be called at
// any time and more than once.
func (s *Server) Close() { s.conn.close() }

func (s *Server) cleanUp() {
	s.conn.close()
	s.release()
}

// release gives up everything but the connection.
func (s *Server) release() {
	s.pause()
	if s.table != nil {
		_ = s.table.close()
		s.table = nil
	}
	for _, r := range s.rings {
		r.close()
	}
}

func (s *Server) serveOne(m *message) error {
	defer m.close()
	payload, err := s.handle(m)
	if err != nil {
		return err
	}
	if payload == nil && m.flags&flagNeedReply != 0 && s.protocol&protocolReplyAck != 0 {
		payload = encodeU64(0)
	}
	if payload == nil {
		return nil
	}
	return s.conn.reply(m.request, payload)
}

// handle does what m asks and returns the payload of the reply, nil when the
// request has none of its own.
func (s *Server) handle(m *message) ([]byte, error) {
	h, ok := handlers[m.request]
	if !ok {
		return nil, fmt.Errorf("%w: unknown request %d", ErrProtocol, m.request)
	}
	if h.size != anySize && len(m.payload) != h.size {
		return nil, fmt.Errorf("%w: %s with %d bytes, want %d", ErrProtocol, h.name, len(m.payload), h.size)
	}
	if len(m.fds) > h.fds {
		return nil, fmt.Errorf("%w: %s with %d descriptors", ErrProtocol, h.name, len(m.fds))
	}
	payload, err := h.run(s, m)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", h.name, err)
	}
	s.settle()
	return payload, nil
}
