package export

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/rootfs/changes"
)

// happening is what the host has done to one name since the guest was last told,
// or a move.
type happening struct {
	at   place
	to   place  // of a move
	mask uint64 // FAN_*, those of all events
	// lost says that the inode has no name any more.
	lost bool
}

type happeningKey struct {
	path, name string
	dir        bool
}

func (h *happening) isDir() bool  { return h.mask&unix.FAN_ONDIR != 0 }
func (h *happening) isMove() bool { return h.mask&unix.FAN_RENAME != 0 }

func keyAt(p place, mask uint64) happeningKey {
	return happeningKey{p.path, p.name, mask&unix.FAN_ONDIR != 0}
}

// grow adds mask to what has happened at p.
func (s *Server) grow(p place, mask uint64) {
	t := &s.watches
	key := keyAt(p, mask)
	if p.name == "" {
		return
	}
	h := t.open[key]
	if h == nil {
		h = &happening{at: p}
		if !s.enqueue(h) {
			return
		}
		t.open[key] = h
	}
	h.mask |= mask
}

// enqueue queues h and reports whether there was room.
func (s *Server) enqueue(h *happening) bool {
	t := &s.watches
	if len(t.queue) >= maxQueue {
		s.logOnce("changes on the host come faster than the guest can be told: some are left out")
		return false
	}
	t.queue = append(t.queue, h)
	select {
	case t.more <- struct{}{}:
	default:
	}
	return true
}

// queueMove queues a move. What happens to either name afterwards comes after it.
func (s *Server) queueMove(from, to place, mask uint64) {
	if from.name == "" || to.name == "" {
		return
	}
	for _, p := range []place{from, to} {
		delete(s.watches.open, keyAt(p, mask))
	}
	s.enqueue(&happening{at: from, to: to, mask: unix.FAN_RENAME | mask&unix.FAN_ONDIR})
}

// moveTo returns the last move in the queue that leads to p, or nil.
func (t *watchTable) moveTo(p place) *happening {
	for i := len(t.queue) - 1; i >= 0; i-- {
		if h := t.queue[i]; h.isMove() && h.to.in(p.path, p.name) {
			return h
		}
	}
	return nil
}

// moveSelf queues the move of a watched inode to p, unless its directory told
// of it.
func (s *Server) moveSelf(p place, mask uint64) {
	if s.watches.moveTo(p) == nil {
		s.queueMove(p.elsewhere(), p, mask)
	}
}

// lose queues the loss of n's last name, p. It happens elsewhere: the directory,
// if it is watched, tells of the name, and may be gone as well.
func (s *Server) lose(p place, n *node) {
	mask := uint64(unix.FAN_DELETE)
	if n.isDir() {
		mask |= unix.FAN_ONDIR
	}
	if n.sameMount(n.exp.root) {
		p.path = n.exp.name
	}
	p = p.elsewhere()
	p.node = n
	s.enqueue(&happening{at: p, mask: mask, lost: true})
}

// step is one change that the agent is told of.
type step struct {
	changes.Change
	at, to place
}

// nextStep returns what the agent has to do next, None if nothing.
func (s *Server) nextStep() changes.Change {
	t := &s.watches
	t.mu.Lock()
	defer t.mu.Unlock()
	t.now = step{}
	for len(t.steps) == 0 && len(t.queue) > 0 {
		h := t.queue[0]
		t.queue = t.queue[1:]
		if key := keyAt(h.at, h.mask); t.open[key] == h {
			delete(t.open, key)
		}
		t.steps = s.stepsOf(h)
	}
	if len(t.steps) > 0 {
		t.now, t.steps = t.steps[0], t.steps[1:]
	}
	return t.now.Change
}

// step is what the agent is doing.
func (t *watchTable) step() step {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.now
}

// stepsOf says what the agent has to do for h. A name that is made and gone
// again meanwhile is made and removed; of what is gone nothing else is said.
func (s *Server) stepsOf(h *happening) []step {
	mode, there := s.typeAt(h)
	h.at, h.to = s.now(h.at), s.now(h.to)
	one := step{Change: changes.Change{Mode: mode, Dir: h.at.path, Name: h.at.name}, at: h.at, to: h.to}
	var list []step
	add := func(k changes.Kind, when bool) {
		if when {
			one.Kind = k
			list = append(list, one)
		}
	}
	if h.isMove() {
		one.ToDir, one.ToName = h.to.path, h.to.name
		add(changes.Move, true)
		return list
	}
	has := func(bits uint64) bool { return h.mask&bits != 0 }
	file := mode == unix.S_IFREG
	add(changes.Delete, has(unix.FAN_DELETE) && there)
	add(changes.Create, has(unix.FAN_CREATE))
	add(changes.Modify, has(unix.FAN_MODIFY) && there && file)
	add(changes.Attrib, has(unix.FAN_ATTRIB) && there)
	add(changes.Written, has(unix.FAN_CLOSE_WRITE) && there && file)
	add(changes.Delete, has(unix.FAN_DELETE) && !there)
	return list
}

// typeAt is the type of the file that h is about, and whether it is still
// there.
func (s *Server) typeAt(h *happening) (mode uint32, there bool) {
	mode = unix.S_IFREG
	if h.isDir() {
		mode = unix.S_IFDIR
	}
	if n := h.at.node; n != nil {
		return uint32(n.mode), !h.lost
	}
	if h.at.dir == nil || h.at.dir.pin(s.host) != nil {
		return mode, false
	}
	defer h.at.dir.unpin(s.host)
	var st unix.Statx_t
	if statxName(h.at.dir.fd, h.at.name, &st) != nil {
		return mode, false
	}
	found := uint32(st.Mode) & unix.S_IFMT
	if (found == unix.S_IFDIR) != h.isDir() {
		return mode, false
	}
	return found, true
}

// waitForStep returns the next step, or None after the given time or when
// nobody may wait any more.
func (s *Server) waitForStep(unique uint64, patience time.Duration) changes.Change {
	s.watches.next.Lock()
	defer s.watches.next.Unlock()
	interrupted, done := s.waits.enter(unique)
	defer done()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		if c := s.nextStep(); c.Kind != changes.None {
			return c
		}
		select {
		case <-s.watches.more:
		case <-timeout.C:
			return changes.Change{}
		case <-interrupted:
			return changes.Change{}
		case <-s.waits.ended():
			return changes.Change{}
		}
	}
}
