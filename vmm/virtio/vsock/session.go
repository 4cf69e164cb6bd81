package vsock

import (
	"errors"
	"fmt"
	"net"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/vmm/virtio"
	"github.com/microvm/microvm/vmm/virtio/queue"
)

// Names of what the poller watches besides streams.
const (
	idWake = iota
	idRx
	idTx
	idStreams // the first of a stream
)

// budget is how many packets the loop handles on one ring before it looks at
// the other and at the sockets.
const budget = 32

// call is a wish for a stream from the host to the guest.
type call struct {
	port uint32
	conn *net.UnixConn
	// greet says that conn speaks the protocol of Serve and awaits an answer.
	greet bool
}

// session is the device from Activate to Reset. All but the mail box belongs
// to the goroutine of run.
type session struct {
	device *Device
	fail   func(error)
	poll   *poller
	warned [faultCount]bool

	rx      receiver
	tx      *virtio.Queue
	txChain queue.Chain
	// txPaused says that packets wait in tx until control has drained.
	txPaused bool
	// control holds packets without payload on their way to the guest; they
	// go before data.
	control fifo[control]
	// ready holds the streams that have data and credit, in turn.
	ready fifo[*stream]

	streams  map[ports]*stream // those that the guest knows
	watched  map[int32]*stream // those that have a socket, by poller id
	nextID   int32
	nextPort uint32

	iov   [][]byte // scratch
	spare []byte   // an empty backlog to use again

	done chan struct{} // closed when run has returned

	// mu guards the mail box: all below, and ringing wake.
	mu      sync.Mutex
	wake    *virtio.EventFD
	stopped bool
	calls   []call
	expired []*stream
}

func newSession(d *Device, rx, tx *virtio.Queue, fail func(error)) (*session, error) {
	wake, err := virtio.NewEventFD()
	if err != nil {
		return nil, err
	}
	poll, err := newPoller()
	if err != nil {
		wake.Close()
		return nil, err
	}
	s := &session{
		device: d, fail: fail, poll: poll, rx: receiver{queue: rx}, tx: tx, wake: wake,
		streams: make(map[ports]*stream), watched: make(map[int32]*stream),
		nextID: idStreams, nextPort: firstPort, done: make(chan struct{}),
	}
	for id, e := range []*virtio.EventFD{idWake: wake, idRx: rx.Kick, idTx: tx.Kick} {
		if err := poll.add(e.FD(), int32(id), unix.EPOLLIN); err != nil {
			return nil, errors.Join(err, s.release())
		}
	}
	return s, nil
}

// start starts the loop; stop ends it.
func (s *session) start() { go s.run() }

// stop ends the loop, waits for it and releases everything.
func (s *session) stop() {
	s.mu.Lock()
	s.stopped = true
	s.wake.Ring()
	s.mu.Unlock()
	<-s.done
	s.release()
}

func (s *session) release() error {
	s.poll.close()
	return s.wake.Close()
}

// call puts c into the mail box. It returns false, and leaves c.conn to the
// caller, when the session has ended.
func (s *session) call(c call) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return false
	}
	s.calls = append(s.calls, c)
	s.wake.Ring()
	return true
}

// expire tells the loop that st has waited for the guest long enough. It may
// come late, when the session is long gone.
func (s *session) expire(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return
	}
	s.expired = append(s.expired, st)
	s.wake.Ring()
}

func (s *session) run() {
	defer close(s.done)
	err := s.loop()
	s.mu.Lock()
	s.stopped = true
	calls := s.calls
	s.calls = nil
	s.mu.Unlock()
	for _, c := range calls {
		refuse(c, ErrInactive)
	}
	for _, st := range s.watched {
		s.abandon(st)
	}
	s.rx.release()
	if err != nil {
		s.fail(fmt.Errorf("run vsock: %w", err))
	}
}

// loop works until stop, or until a ring is broken.
func (s *session) loop() error {
	for s.readMail() {
		busy, err := s.step()
		if err != nil {
			return err
		}
		events, err := s.poll.wait(!busy)
		if err != nil {
			return err
		}
		for _, e := range events {
			// Doorbells have no stream: step looks at the rings anyway.
			if st := s.watched[e.Fd]; st != nil {
				s.socketEvent(st, e.Events)
			}
		}
	}
	return nil
}

// readMail empties the mail box. It returns false after stop.
func (s *session) readMail() bool {
	s.mu.Lock()
	stopped, calls, expired := s.stopped, s.calls, s.expired
	if !stopped {
		s.calls, s.expired = nil, nil
	}
	s.mu.Unlock()
	if stopped {
		return false
	}
	for _, c := range calls {
		s.request(c)
	}
	for _, st := range expired {
		s.giveUp(st)
	}
	return true
}

// step serves both rings once, within the budget, and says whether there is
// more to do. If not, the driver kicks when there is.
func (s *session) step() (busy bool, err error) {
	moreTx, err := s.serveTx()
	if err != nil {
		return false, err
	}
	moreRx, err := s.serveRx()
	if err != nil {
		return false, err
	}
	resume := s.txPaused && s.control.len() < maxControl
	return moreTx || moreRx || resume, nil
}
