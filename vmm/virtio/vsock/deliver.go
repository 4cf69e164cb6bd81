package vsock

import "golang.org/x/sys/unix"

// maxSpare is the largest backlog that is kept for the next stream, in bytes.
const maxSpare = bufAlloc

// Events that a stream's socket is watched for; EPOLLOUT only while there is a
// backlog, since every read of the peer raises it.
const (
	watchIn    = unix.EPOLLIN | unix.EPOLLRDHUP
	watchInOut = watchIn | unix.EPOLLOUT
)

// deliver passes the payload of a packet on: n bytes of bufs behind the
// header, which the guest had credit for.
func (s *session) deliver(st *stream, bufs [][]byte, n int) {
	st.received += uint32(n)
	s.iov = section(s.iov[:0], bufs, headerSize, n)
	done := 0
	if st.pending() == 0 && n > 0 {
		done = s.write(st, s.iov)
	}
	if done < n && !st.outEnded {
		s.store(st, section(s.iov[len(s.iov):], s.iov, done, n-done))
	}
	s.forward(st)
}

// write gives bufs to the socket and returns how many bytes it took. It sets
// outEnded when the socket takes no more.
func (s *session) write(st *stream, bufs [][]byte) int {
	if st.outEnded {
		return 0
	}
	n, err := writeSocket(st.fd, bufs)
	if err != nil && err != unix.EAGAIN {
		st.outEnded = true
	}
	return n
}

// store appends bufs to the backlog.
func (s *session) store(st *stream, bufs [][]byte) {
	if st.pending() == 0 {
		if err := s.poll.modify(st.fd, st.id, watchInOut); err != nil {
			st.outEnded = true // nobody would flush
			return
		}
		st.backlog, s.spare = s.spare, nil
	}
	for _, b := range bufs {
		st.backlog = append(st.backlog, b...)
	}
}

// flush writes the backlog as far as the socket takes it.
func (s *session) flush(st *stream) {
	s.iov = append(s.iov[:0], st.backlog[st.taken:])
	st.taken += s.write(st, s.iov)
	if st.pending() == 0 || st.outEnded {
		s.dropBacklog(st)
		_ = s.poll.modify(st.fd, st.id, watchIn)
	} else if st.taken > len(st.backlog)/2 {
		n := copy(st.backlog, st.backlog[st.taken:])
		st.backlog, st.taken = st.backlog[:n], 0
	}
	s.forward(st)
}

// dropBacklog empties the backlog and keeps its memory for the next one.
func (s *session) dropBacklog(st *stream) {
	if c := cap(st.backlog); c > cap(s.spare) && c <= maxSpare {
		s.spare = st.backlog[:0]
	}
	st.backlog, st.taken = nil, 0
}

// forward counts what has left for the socket, and tells the guest when half
// of its credit can be given back. What a socket that ended does not take
// counts too: the guest is told to stop, and must not be stuck until then.
func (s *session) forward(st *stream) {
	st.forwarded = st.received - uint32(st.pending())
	if st.phase == phaseOpen && st.forwarded-st.advertised >= bufAlloc/2 {
		s.sendCredit(st)
	}
}
