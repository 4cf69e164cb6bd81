package vsock

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/vmm/virtio"
	"github.com/microvm/microvm/vmm/virtio/queue"
)

// maxControl is how many packets without payload may wait for the guest's
// receive buffers before its own packets have to wait.
const maxControl = 256

// control is a packet without payload on its way to the guest.
type control struct {
	ports
	typ, op uint16
	flags   uint32
	st      *stream // fills in the credit at last; nil for none
}

// receiver hands out the guest's receive buffers one at a time.
type receiver struct {
	queue *virtio.Queue
	chain queue.Chain
	held  bool // chain is a buffer that was not used yet
}

// take makes chain a buffer with room for a header and payload. When it
// returns false, the driver kicks as soon as it has added one.
func (r *receiver) take() (bool, error) {
	for !r.held {
		ok, err := r.queue.Pop(&r.chain)
		if err != nil {
			return false, err
		}
		if ok {
			if r.chain.WritableLen <= headerSize {
				return false, fmt.Errorf("receive buffer of %d bytes: %w", r.chain.WritableLen, virtio.ErrDevice)
			}
			r.held = true
		} else if !r.queue.EnableKick() {
			return false, nil
		}
	}
	return true, nil
}

// release returns a buffer that was taken and not used: a driver passes over
// one without a header, and a later session on the same ring misses nothing.
func (r *receiver) release() {
	if r.held {
		r.held = false
		r.queue.Push(r.chain.Head, 0)
		r.queue.Notify()
	}
}

// give returns the buffer to the guest with h and the payload that is in it.
func (r *receiver) give(h *header) {
	var b [headerSize]byte
	h.encode(&b)
	r.chain.Write(b[:], 0)
	r.queue.Push(r.chain.Head, headerSize+h.len)
	r.held = false
}

// serveRx sends packets to the guest and says whether there are more.
func (s *session) serveRx() (more bool, err error) {
	defer s.rx.queue.Notify()
	for range budget {
		if s.control.len() == 0 && s.ready.len() == 0 {
			return false, nil
		}
		if ok, err := s.rx.take(); !ok || err != nil {
			return false, err
		}
		if s.control.len() > 0 {
			s.sendControl(s.control.pop())
		} else {
			s.sendData(s.ready.pop())
		}
	}
	return true, nil
}

func (s *session) sendControl(c control) {
	h := s.header(c.ports, c.op)
	h.typ, h.flags = c.typ, c.flags
	if c.st != nil {
		c.st.advertise(&h)
		if c.op == opCreditUpdate {
			c.st.crediting = false
		}
	}
	s.rx.give(&h)
}

// sendData moves bytes from the socket of st into the buffer, one packet at
// most, and queues st again behind the others.
func (s *session) sendData(st *stream) {
	st.queued = false
	if st.sendable() {
		s.fill(st)
		s.settle(st)
	}
}

// fill reads into the buffer. Only an empty read tells that there is no more:
// short ones also come where a client has passed descriptors along.
func (s *session) fill(st *stream) {
	room := min(s.rx.chain.WritableLen-headerSize, st.credit(), maxPayload)
	s.iov = section(s.iov[:0], s.rx.chain.Writable, headerSize, room)
	n, err := readSocket(st.fd, s.iov)
	switch {
	case err == unix.EAGAIN:
		st.readable = false
	case err != nil:
		// The host's side went away with bytes of ours unread.
		st.inEnded, st.hangup = true, true
	case n == 0:
		st.inEnded = true
	default:
		st.sent += uint32(n)
		h := s.header(st.ports, opRW)
		h.len = uint32(n)
		st.advertise(&h)
		s.rx.give(&h)
	}
}

// header is that of a packet to the guest.
func (s *session) header(p ports, op uint16) header {
	return header{
		srcCID: hostCID, dstCID: s.device.config.GuestCID,
		srcPort: p.host, dstPort: p.guest, typ: typeStream, op: op,
	}
}
