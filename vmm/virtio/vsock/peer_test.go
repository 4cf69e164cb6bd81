package vsock_test

import (
	"sync"
	"testing"
	"time"
)

// echoGuest is a whole guest in one goroutine: it accepts every request and
// sends back every byte, within the credit it has and grants.
type echoGuest struct {
	*guest
	streams map[uint32]*echo // by host port
	answers []packet         // wait for room in the tx ring
	stop    chan struct{}
	done    sync.WaitGroup
}

// echo is one stream of an echoGuest.
type echo struct {
	conn
	pending             []byte // received and not yet sent back
	received, fwd, told uint32 // bytes from the host; echoed; as told to it
	sent, hostFwd       uint32
	hostAlloc           uint32
	eof                 bool // the host has sent all
}

func bootEcho(t testing.TB, l layout) *echoGuest {
	t.Helper()
	e := &echoGuest{guest: boot(t, l), streams: make(map[uint32]*echo), stop: make(chan struct{})}
	e.done.Add(1)
	go e.run()
	t.Cleanup(func() {
		close(e.stop)
		e.done.Wait()
	})
	return e
}

func (e *echoGuest) run() {
	defer e.done.Done()
	for {
		select {
		case <-e.stop:
			return
		default:
		}
		if !e.work() {
			select {
			case <-e.rx.irq:
			case <-e.tx.irq:
			case <-e.stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}
}

// work receives and sends what it can without waiting.
func (e *echoGuest) work() (busy bool) {
	for p := e.poll(); p != nil; p = e.poll() {
		e.handle(p)
		busy = true
	}
	if len(e.rx.free) > int(e.rxSize)/2 {
		e.refill()
	}
	for head, _, ok := e.tx.Used(); ok; head, _, ok = e.tx.Used() {
		e.tx.free = append(e.tx.free, head)
	}
	for len(e.answers) > 0 && len(e.tx.free) > 0 {
		e.send(e.answers[0])
		e.answers = e.answers[1:]
		busy = true
	}
	for _, s := range e.streams {
		for len(e.tx.free) > 0 && e.echoSome(s) {
			busy = true
		}
	}
	return busy
}

func (e *echoGuest) answer(s *echo, op uint16, flags uint32) {
	s.told = s.fwd
	e.answers = append(e.answers, packet{
		SrcPort: s.guest, DstPort: s.host, Op: op, Flags: flags, BufAlloc: guestCredit, FwdCnt: s.fwd,
	})
}

func (e *echoGuest) handle(p *packet) {
	s := e.streams[p.SrcPort]
	if p.Op == opRequest {
		s = &echo{conn: conn{guest: p.DstPort, host: p.SrcPort}}
		e.streams[p.SrcPort] = s
		e.answer(s, opResponse, 0)
	}
	if s == nil {
		if p.Op != opRst {
			e.t.Errorf("packet for no stream: %v", p)
		}
		return
	}
	s.hostAlloc, s.hostFwd = p.BufAlloc, p.FwdCnt
	switch p.Op {
	case opRW:
		s.received += p.Len
		s.pending = append(s.pending, p.data...)
		if s.received-s.fwd > guestCredit {
			e.t.Errorf("host has sent past the credit: %v", p)
		}
	case opCreditRequest:
		e.answer(s, opCreditUpdate, 0)
	case opShutdown:
		if p.Flags == shutBoth {
			e.answer(s, opRst, 0)
			delete(e.streams, s.host)
		}
		s.eof = true
	case opRst:
		delete(e.streams, s.host)
	}
}

// echoSome sends one packet of s and says whether it could.
func (e *echoGuest) echoSome(s *echo) bool {
	n := min(len(s.pending), int(s.hostAlloc)-int(s.sent-s.hostFwd), 64<<10)
	if n <= 0 {
		if s.eof && len(s.pending) == 0 {
			e.answer(s, opShutdown, shutBoth)
			s.eof = false
		}
		return false
	}
	s.fwd += uint32(n)
	e.send(packet{
		SrcPort: s.guest, DstPort: s.host, Op: opRW, BufAlloc: guestCredit, FwdCnt: s.fwd,
		data: s.pending[:n],
	})
	s.pending = s.pending[n:]
	s.sent += uint32(n)
	return true
}
