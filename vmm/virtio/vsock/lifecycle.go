package vsock

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxStreams is how many streams there may be at a time.
	maxStreams = 4096
	// firstPort is the first port given to the host's side of a stream to the
	// guest, far from those that a guest dials.
	firstPort = 1 << 30
)

// Why a stream to the guest did not come about.
var (
	errRefused    = errors.New("guest refused the connection")
	errNoAnswer   = errors.New("guest did not answer")
	errGuestBroke = errors.New("guest broke the protocol")
)

// request starts a stream from the host to the guest.
func (s *session) request(c call) {
	if len(s.watched) >= maxStreams {
		refuse(c, ErrTooMany)
		return
	}
	fd, err := detach(c.conn)
	if err != nil {
		return
	}
	st := s.watch(fd, ports{guest: c.port, host: s.freePort(c.port)})
	if st == nil {
		return
	}
	st.greet = c.greet
	st.timer = time.AfterFunc(s.device.config.ConnectTimeout, func() { s.expire(st) })
	s.send(st, opRequest, 0)
}

// freePort finds a host port for a new stream to a port of the guest.
func (s *session) freePort(guest uint32) uint32 {
	for { // ends: there are at most maxStreams streams
		port := s.nextPort
		s.nextPort = max(s.nextPort+1, firstPort)
		if s.streams[ports{guest: guest, host: port}] == nil {
			return port
		}
	}
}

// watch makes a stream, in phaseConnecting, that the guest will know by p. It
// takes fd over; it returns nil, with fd closed, when that can't be watched.
func (s *session) watch(fd int, p ports) *stream {
	st := &stream{ports: p, fd: fd, id: s.freeID()}
	if err := s.poll.add(fd, st.id, watchIn); err != nil {
		unix.Close(fd)
		return nil
	}
	s.watched[st.id], s.streams[p] = st, st
	return st
}

// freeID finds a name for a socket in the poller.
func (s *session) freeID() int32 {
	for { // ends: there are at most maxStreams streams
		id := s.nextID
		s.nextID = max(s.nextID+1, idStreams) // wraps to the first
		if s.watched[id] == nil {
			return id
		}
	}
}

// accept answers a request of the guest for a stream to the host.
func (s *session) accept(h *header) {
	st := s.dial(h)
	if st == nil {
		s.reject(h)
		return
	}
	st.phase = phaseOpen
	st.acknowledge(h)
	s.send(st, opResponse, 0)
}

// dial connects a request of the guest to the host, or returns nil.
func (s *session) dial(h *header) *stream {
	if h.fwdCnt != 0 {
		s.fault(faultForward)
		return nil
	}
	if len(s.watched) >= maxStreams || s.device.config.Dial == nil {
		return nil
	}
	c, err := s.device.config.Dial(h.dstPort)
	if err != nil {
		return nil
	}
	fd, err := detach(c)
	if err != nil {
		return nil
	}
	return s.watch(fd, ports{guest: h.srcPort, host: h.dstPort})
}

// guestAccepted opens a stream that the host asked for.
func (s *session) guestAccepted(st *stream) {
	st.timer.Stop()
	st.phase = phaseOpen
	if !st.greet {
		return
	}
	// The socket is fresh: it takes a line, or its peer does not read. That
	// may have written already, and gone.
	line := fmt.Appendf(nil, "OK %d\n", st.host)
	if s.write(st, [][]byte{line}) < len(line) {
		st.outEnded = true
	}
}

// guestShutdown takes note of what the guest will no longer do.
func (s *session) guestShutdown(st *stream, flags uint32) {
	if flags&^st.guestShut&shutdownReceive != 0 {
		_ = unix.Shutdown(st.fd, unix.SHUT_RD)
	}
	st.guestShut |= flags & shutdownBoth
}

// guestReset ends a stream on the guest's side. What the guest had sent before
// still goes to the socket.
func (s *session) guestReset(st *stream) {
	s.forget(st)
	if st.phase == phaseConnecting {
		s.refuse(st, errRefused)
		return
	}
	st.phase = phaseDetached
	s.settle(st)
}

// finish ends a stream on which both directions have ended.
func (s *session) finish(st *stream) {
	if st.guestShut == shutdownBoth {
		s.send(st, opRst, 0) // the answer that the guest awaits
	} else if st.told != shutdownBoth {
		s.send(st, opShutdown, shutdownBoth)
	}
	s.forget(st)
	s.close(st)
}

// reset ends a stream at once, on both sides.
func (s *session) reset(st *stream) {
	s.send(st, opRst, 0)
	s.forget(st)
	if st.phase == phaseConnecting {
		s.refuse(st, errGuestBroke)
		return
	}
	s.close(st)
}

// giveUp ends a stream that the guest has not answered in time.
func (s *session) giveUp(st *stream) {
	if st.phase == phaseConnecting {
		s.send(st, opRst, 0)
		s.forget(st)
		s.refuse(st, errNoAnswer)
	}
}

// abandon ends a stream without telling the guest.
func (s *session) abandon(st *stream) {
	if st.phase == phaseConnecting {
		s.refuse(st, ErrInactive)
		return
	}
	if st.pending() > 0 {
		s.flush(st)
	}
	s.close(st)
}

// refuse tells the client of a stream that did not come about why.
func (s *session) refuse(st *stream, cause error) {
	if st.greet {
		_, _ = writeSocket(st.fd, [][]byte{errorLine(cause)})
	}
	s.close(st)
}

// forget makes the guest's packets for st those of no stream.
func (s *session) forget(st *stream) { delete(s.streams, st.ports) }

// close releases the socket of a stream that the guest has forgotten.
func (s *session) close(st *stream) {
	if st.timer != nil {
		st.timer.Stop()
	}
	st.phase = phaseClosed
	s.dropBacklog(st)
	delete(s.watched, st.id)
	s.poll.remove(st.fd)
	closeQuietly(st.fd)
}
