package vsock

import (
	"time"

	"golang.org/x/sys/unix"
)

// bufAlloc is the credit of the guest on a stream, in bytes: how much of its
// data may be on the way to the host's side (section 5.10.6.3).
const bufAlloc = 256 << 10

// maxCredit caps what a guest's credit counts for, in bytes, so that
// differences of the 32-bit counters keep their sign.
const maxCredit = 1 << 30

// ports names a stream that the guest knows.
type ports struct{ guest, host uint32 }

type phase uint8

const (
	// phaseConnecting: the guest has yet to answer our request.
	phaseConnecting phase = iota
	phaseOpen
	// phaseDetached: the guest has forgotten the stream, and what it sent
	// last is still on its way to the socket.
	phaseDetached
	// phaseClosed: nothing is left but references in queues.
	phaseClosed
)

// stream joins one socket of the host to one of the guest.
type stream struct {
	ports
	phase phase
	fd    int
	id    int32       // names fd in the poller
	greet bool        // the socket awaits an answer to its CONNECT
	timer *time.Timer // runs while connecting

	// From the socket to the guest.
	readable  bool   // the socket may have bytes
	inEnded   bool   // it has no more, ever
	queued    bool   // in session.ready
	sent      uint32 // bytes the guest was sent: our tx_cnt
	peerAlloc uint32 // the guest's buf_alloc and fwd_cnt
	peerFwd   uint32
	asked     bool // CREDIT_REQUEST was sent since there was credit

	// From the guest to the socket.
	backlog    []byte // received and not yet taken by the socket, from taken on
	taken      int
	outEnded   bool   // the socket takes no more, ever
	received   uint32 // bytes the guest has sent: its tx_cnt
	forwarded  uint32 // bytes the socket has taken: our fwd_cnt
	advertised uint32 // forwarded as the guest knows it
	crediting  bool   // a CREDIT_UPDATE is queued

	hangup    bool   // the socket's peer is gone in both directions
	guestShut uint32 // shutdown flags that the guest has sent
	told      uint32 // shutdown flags that the guest was sent
}

// credit is how many bytes the guest can take.
func (st *stream) credit() int {
	inFlight := st.sent - st.peerFwd
	alloc := min(st.peerAlloc, maxCredit)
	if inFlight >= alloc {
		return 0
	}
	return int(alloc - inFlight)
}

// ahead says that the guest claims to have taken more than it was sent.
func (st *stream) ahead(fwdCnt uint32) bool { return int32(fwdCnt-st.sent) > 0 }

// acknowledge takes note of the credit in a packet of the guest. A fwd_cnt that
// goes back is outdated: packets of different threads of the guest overtake
// each other.
func (st *stream) acknowledge(h *header) {
	st.peerAlloc = h.bufAlloc
	if int32(h.fwdCnt-st.peerFwd) > 0 {
		st.peerFwd = h.fwdCnt
	}
}

// advertise puts the guest's credit into a header.
func (st *stream) advertise(h *header) {
	h.bufAlloc, h.fwdCnt = bufAlloc, st.forwarded
	st.advertised = st.forwarded
}

// wantsData says that the guest would read bytes from the socket.
func (st *stream) wantsData() bool {
	return st.phase == phaseOpen && st.readable && !st.inEnded && st.guestShut&shutdownReceive == 0
}

func (st *stream) sendable() bool { return st.wantsData() && st.credit() > 0 }

func (st *stream) pending() int { return len(st.backlog) - st.taken }

// socketEvent takes note of what the poller says about the socket of st.
func (s *session) socketEvent(st *stream, events uint32) {
	const end = unix.EPOLLHUP | unix.EPOLLERR
	if events&end != 0 {
		st.hangup = true
	}
	if events&(unix.EPOLLIN|unix.EPOLLRDHUP|end) != 0 {
		st.readable = true
	}
	if st.pending() > 0 && events&(unix.EPOLLOUT|end) != 0 {
		s.flush(st)
	}
	s.settle(st)
}

// settle does what the state of st calls for, after anything has changed.
func (s *session) settle(st *stream) {
	switch st.phase {
	case phaseOpen:
		s.settleOpen(st)
	case phaseDetached:
		if st.pending() == 0 || st.hangup {
			s.close(st)
		}
	}
}

func (s *session) settleOpen(st *stream) {
	guestDone := st.guestShut&shutdownSend != 0
	if guestDone && st.pending() == 0 && !st.outEnded {
		st.outEnded = true
		_ = unix.Shutdown(st.fd, unix.SHUT_WR)
	}
	inDone := st.inEnded || st.guestShut&shutdownReceive != 0
	if inDone && (st.outEnded || st.hangup) {
		s.finish(st)
		return
	}
	var flags uint32
	if st.inEnded {
		flags |= shutdownSend
	}
	if st.outEnded && !guestDone {
		flags |= shutdownReceive
	}
	if flags&^st.told != 0 {
		st.told |= flags
		s.send(st, opShutdown, flags)
	}
	s.enqueue(st)
}

// enqueue lets st have its turn on the receive ring, if it has data. Without
// credit it asks the guest for some, once.
func (s *session) enqueue(st *stream) {
	switch {
	case st.queued || !st.wantsData():
	case st.credit() > 0:
		st.queued, st.asked = true, false
		s.ready.push(st)
	case !st.asked:
		st.asked = true
		s.send(st, opCreditRequest, 0)
	}
}

// send queues a packet without payload.
func (s *session) send(st *stream, op uint16, flags uint32) {
	s.control.push(control{ports: st.ports, typ: typeStream, op: op, flags: flags, st: st})
}

// sendCredit tells the guest its credit.
func (s *session) sendCredit(st *stream) {
	if !st.crediting {
		st.crediting = true
		s.send(st, opCreditUpdate, 0)
	}
}
