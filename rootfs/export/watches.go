package export

import (
	"errors"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/rootfs/changes"
)

// watchTable knows what processes of the guest watch, and what has happened
// there on the host and has not been passed on yet.
type watchTable struct {
	mu       sync.Mutex
	notifier *notifier // from the first watch on
	byID     map[uint64]*watch
	byInode  map[inodeKey][]*watch // one for each export that has the inode
	told     map[string]bool       // what was logged already

	queue []*happening
	open  map[happeningKey]*happening // those in the queue that may grow
	steps []step                      // what is left of the last one
	now   step                        // what the agent is doing
	more  chan struct{}               // has room for one: something was queued
	next  sync.Mutex                  // held by the one that waits
}

// watch is an inode that is watched in the guest.
type watch struct {
	node  *node // pinned
	inode inodeKey
	// unlinked says that the loss of the inode's last name was noted.
	unlinked bool
}

const (
	// maxWatches bounds the watches of a guest, each of which keeps a
	// descriptor, and an inode in the host's memory.
	maxWatches = 8192
	// maxQueue bounds what waits to be passed on.
	maxQueue = 64 << 10
	// gathering is how long events are left to the host's kernel, which
	// makes one of those that are alike.
	gathering = 10 * time.Millisecond
	// looking is how often watched directories are looked at: the loss of
	// the last name is no event while the server has one open.
	looking = time.Second
)

func (t *watchTable) init() {
	t.byID, t.byInode = map[uint64]*watch{}, map[inodeKey][]*watch{}
	t.open, t.told = map[happeningKey]*happening{}, map[string]bool{}
	t.more = make(chan struct{}, 1)
}

// watch begins to watch the node with the given id, unless it is watched. What
// can't be watched is logged, the first time.
func (s *Server) watch(id uint64) {
	t := &s.watches
	t.mu.Lock()
	defer t.mu.Unlock()
	n := s.nodes.get(id)
	if n == nil || t.byID[id] != nil || n.pin(s.host) != nil {
		return
	}
	if err := s.addWatch(n); err != nil {
		n.unpin(s.host)
		s.logOnce("processes in the guest are not told of changes on the host: %v", err)
	}
}

func (s *Server) addWatch(n *node) error {
	t := &s.watches
	if len(t.byID) >= maxWatches {
		return errors.New("too many files are watched")
	}
	if n.exp.isGone() {
		return nil
	}
	if err := s.startNotifier(); err != nil {
		return err
	}
	key, err := inodeKeyOf(n)
	if err != nil {
		return os.NewSyscallError("name_to_handle_at", err)
	}
	if len(t.byInode[key]) == 0 {
		if err := t.notifier.mark(s.host, n); err != nil {
			return os.NewSyscallError("fanotify_mark", err)
		}
	}
	w := &watch{node: n, inode: key}
	t.byID[n.id] = w
	t.byInode[key] = append(t.byInode[key], w)
	return nil
}

// startNotifier opens the group of the watches, if there is none. t.mu is held.
func (s *Server) startNotifier() (err error) {
	t := &s.watches
	if t.notifier != nil {
		return nil
	}
	if t.notifier, err = newNotifier(); err != nil {
		return err
	}
	go s.notice(t.notifier)
	go s.look(t.notifier)
	return nil
}

// logOnce logs what is wrong with watches. t.mu is held.
func (s *Server) logOnce(format string, args ...any) {
	if t := &s.watches; !t.told[format] {
		t.told[format] = true
		s.logf(format, args...)
	}
}

// unwatch ends the watch of the node with the given id.
func (s *Server) unwatch(id uint64) {
	s.watches.mu.Lock()
	defer s.watches.mu.Unlock()
	if w := s.watches.byID[id]; w != nil {
		s.dropWatch(w)
	}
}

// dropWatches ends the watches of the nodes that match chooses, and with the
// last one the group. What is queued is forgotten.
func (s *Server) dropWatches(match func(*node) bool) {
	t := &s.watches
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, w := range t.byID {
		if match(w.node) {
			s.dropWatch(w)
		}
	}
	if len(t.byID) == 0 && t.notifier != nil {
		t.notifier.f.Close()
		t.notifier = nil
		t.queue, t.steps, t.now = nil, nil, step{}
		clear(t.open)
	}
}

func (s *Server) dropWatch(w *watch) {
	t := &s.watches
	delete(t.byID, w.node.id)
	rest := slices.DeleteFunc(t.byInode[w.inode], func(o *watch) bool { return o == w })
	if len(rest) > 0 {
		t.byInode[w.inode] = rest
	} else {
		delete(t.byInode, w.inode)
		_ = t.notifier.unmark(s.host, w.node) // fails if the inode is gone
	}
	w.node.unpin(s.host)
}

// notice queues what the host's kernel tells until g is closed.
func (s *Server) notice(g *notifier) {
	buf := make([]byte, eventBuffer)
	for {
		list, err := g.read(buf)
		if err != nil {
			return
		}
		s.watches.mu.Lock()
		if s.watches.notifier == g {
			for i := range list {
				s.note(&list[i])
			}
		}
		s.watches.mu.Unlock()
		time.Sleep(gathering)
	}
}

// look notes the directories that have lost their name until g is closed.
func (s *Server) look(g *notifier) {
	for {
		time.Sleep(looking)
		s.watches.mu.Lock()
		if s.watches.notifier != g {
			s.watches.mu.Unlock()
			return
		}
		for _, w := range s.watches.byID {
			if w.node.isDir() && !w.unlinked {
				s.noteSelf(w, 0)
			}
		}
		s.watches.mu.Unlock()
	}
}

// note queues what e says, unless it was the guest's own doing. t.mu is held.
func (s *Server) note(e *event) {
	t := &s.watches
	switch {
	case e.mask&unix.FAN_Q_OVERFLOW != 0:
		s.logOnce("changes on the host come faster than the guest can be told: some are left out")
	case e.pid == s.host.pid:
	case e.mask&unix.FAN_RENAME != 0:
		s.noteMove(e)
	default:
		if e.in.name != "" && e.in.name != "." {
			for _, w := range t.byInode[e.in.dir] {
				s.grow(s.placeIn(w.node, e.in.name), e.mask)
			}
		}
		self := e.object
		if self == "" && e.in.name == "." {
			self = e.in.dir
		}
		for _, w := range t.byInode[self] {
			s.noteSelf(w, e.mask)
		}
	}
}

// noteMove queues a move, in each export in which one of its ends is watched.
func (s *Server) noteMove(e *event) {
	t := &s.watches
	to := slices.Clone(t.byInode[e.to.dir])
	for _, w := range t.byInode[e.from.dir] {
		from := s.placeIn(w.node, e.from.name)
		target := from.elsewhere()
		if i := slices.IndexFunc(to, func(o *watch) bool { return o.node.exp == w.node.exp }); i >= 0 {
			target = s.placeIn(to[i].node, e.to.name)
			to = slices.Delete(to, i, i+1)
		}
		s.queueMove(from, target, e.mask)
	}
	for _, w := range to {
		target := s.placeIn(w.node, e.to.name)
		s.queueMove(target.elsewhere(), target, e.mask)
	}
}

// noteSelf queues what happened to a watched inode itself.
func (s *Server) noteSelf(w *watch, mask uint64) {
	p, linked := s.placeOf(w.node)
	if w.node.isDir() {
		mask |= unix.FAN_ONDIR
	}
	switch {
	case w.unlinked:
	case !linked && w.node.isRoot():
		w.unlinked = true
		s.grow(p, unix.FAN_ATTRIB|mask&unix.FAN_ONDIR)
	case !linked:
		w.unlinked = true
		s.lose(p, w.node)
	case mask&unix.FAN_MOVE_SELF != 0:
		s.moveSelf(p, mask)
	case mask&^unix.FAN_ONDIR != 0:
		s.grow(p, mask)
	}
}

// place is a name in the share.
type place struct {
	path string // of the directory, see changes.Change.Dir
	name string // empty if there is none
	dir  *node  // the directory, if known
	node *node  // the inode there, if known otherwise
}

func (p place) in(path, name string) bool { return p.path == path && p.name == name }

// is says that p is name in dir, or in the directory with the path where.
func (p place) is(dir *node, where, name string) bool {
	return p.name == name && (p.path == where || p.dir != nil && p.dir == dir)
}

// elsewhere is a place that nobody watches on the device of p.
func (p place) elsewhere() place {
	return place{path: path.Join(p.path, changes.Elsewhere), name: p.name}
}

// placeIn is the place of a name in dir, which is pinned.
func (s *Server) placeIn(dir *node, name string) place {
	where, _ := s.pathOf(dir)
	if where == "" {
		return place{}
	}
	return place{path: where, name: name, dir: dir}
}

// now is p with the path by which the agent finds it now.
func (s *Server) now(p place) place {
	if p.dir != nil {
		p.path = s.whereIs(p.dir)
	}
	return p
}

// whereIs is the path by which the agent finds dir: it has another one than
// before if it was moved, and is elsewhere if it is gone.
func (s *Server) whereIs(dir *node) string {
	if dir.pin(s.host) != nil {
		return ""
	}
	defer dir.unpin(s.host)
	where, linked := s.pathOf(dir)
	if linked || dir.isRoot() || !dir.sameMount(dir.exp.root) {
		return where
	}
	return path.Join(dir.exp.name, changes.Elsewhere, strconv.FormatUint(dir.id, 10))
}

// placeOf is the place of n, which is pinned: the last one, if n has none any
// more and so is not linked.
func (s *Server) placeOf(n *node) (p place, linked bool) {
	where, linked := s.pathOf(n)
	if where == "" {
		return place{}, linked
	}
	dir, name := path.Split(where)
	return place{path: strings.TrimSuffix(dir, "/"), name: name, node: n}, linked
}

// pathOf is the path of n, which is pinned, in the share, or empty if it can't
// be told, and whether n still has a name.
func (s *Server) pathOf(n *node) (where string, linked bool) {
	var st unix.Statx_t
	if statxFD(n.fd, &st) != nil {
		return "", false
	}
	linked = st.Nlink > 0
	if n.isRoot() {
		return n.exp.name, linked
	}
	if n.exp.root.pin(s.host) != nil {
		return "", linked
	}
	defer n.exp.root.unpin(s.host)
	root, own := s.host.path(n.exp.root.fd), s.host.path(n.fd)
	if !linked {
		own = strings.TrimSuffix(own, " (deleted)")
	}
	below, ok := strings.CutPrefix(own, strings.TrimSuffix(root, "/")+"/")
	if !ok || root == "" || below == "" {
		return "", linked
	}
	return n.exp.name + "/" + below, linked
}

// path is the host's path of fd, for comparison only.
func (h *host) path(fd int) string {
	var buf [unix.PathMax]byte
	n, err := unix.Readlinkat(h.proc, h.link(fd), buf[:])
	if err != nil || n == len(buf) {
		return ""
	}
	return string(buf[:n])
}
