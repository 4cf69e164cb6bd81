package export

import (
	"slices"
	"sync"
)

// waitTable knows the requests that wait, so that INTERRUPT finds them.
type waitTable struct {
	mu      sync.Mutex
	waiting map[uint64]chan struct{} // by unique id
	// early are ids that were interrupted before they began to wait, the
	// last few: requests may overtake each other.
	early []uint64
	end   chan struct{} // closed when nobody may wait any more
	over  bool
}

// keptEarly is how many early interrupts are remembered.
const keptEarly = 32

func (t *waitTable) init() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waiting, t.early = map[uint64]chan struct{}{}, nil
	t.end, t.over = make(chan struct{}), false
}

// close ends all waiting until init.
func (t *waitTable) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.over {
		t.over = true
		close(t.end)
	}
}

func (t *waitTable) ended() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.end
}

// enter registers the request that is about to wait. The channel is closed
// when it is interrupted; done must be called at its end.
func (t *waitTable) enter(unique uint64) (interrupted <-chan struct{}, done func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ch := make(chan struct{})
	if i := slices.Index(t.early, unique); i >= 0 {
		t.early = slices.Delete(t.early, i, i+1)
		close(ch)
		return ch, func() {}
	}
	t.waiting[unique] = ch
	return ch, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.waiting[unique] == ch {
			delete(t.waiting, unique)
		}
	}
}

// interrupt serves INTERRUPT (struct fuse_interrupt_in).
func (s *Server) interrupt(c *call) error {
	in := c.args()
	s.waits.interrupt(in.u64())
	return nil
}

func (t *waitTable) interrupt(unique uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if ch := t.waiting[unique]; ch != nil {
		close(ch)
		delete(t.waiting, unique)
		return
	}
	if len(t.early) == keptEarly {
		t.early = t.early[1:]
	}
	t.early = append(t.early, unique)
}
