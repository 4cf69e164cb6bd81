package fs

import (
	"errors"
	"runtime"
	"sync"
	"time"

	"github.com/microvm/microvm/rootfs/export"
	"github.com/microvm/microvm/vmm/virtio"
	"github.com/microvm/microvm/vmm/virtio/queue"
)

// ring serves one queue.
//
// One goroutine, the leader, takes requests off the queue. It serves the last
// one there itself: most are answered from the host's memory in less time than
// it takes to wake a thread. When a request turns out to need longer, a new
// leader takes over the queue, and the old one is an ordinary worker that ends
// with its request. A worker holds one of the device's slots; without a free
// one the leader stays, and the guest has to wait.
type ring struct {
	*run
	queue  *virtio.Queue
	waiter virtio.Waiter // the leader's
	// urgent says that nothing on the queue takes long (forgets), so that it
	// is served in order.
	urgent bool
	timer  *time.Timer // looks after the leader

	mu sync.Mutex
	// serving numbers the request that the leader serves itself, 0 if none;
	// last is the latest number.
	serving, last uint64
	// watched says that the timer runs, and seen is what last was when it rang.
	watched bool
	seen    uint64
}

// patience is how long a request may keep the leader from the queue, and at
// most twice that. The timer is not set for each request, which costs as much
// as serving one: it runs while there are any.
const patience = time.Millisecond

// errRelieved ends a leader besides a broken ring and virtio.ErrStopped.
var errRelieved = errors.New("another goroutine leads")

func newRing(r *run, q *virtio.Queue, urgent bool) *ring {
	g := &ring{run: r, queue: q, waiter: virtio.NewWaiter(r.quit), urgent: urgent}
	g.timer = time.AfterFunc(time.Hour, g.watch)
	g.timer.Stop()
	return g
}

// request is a buffer on its way through the server.
type request struct {
	chain queue.Chain
	fuse  export.Request
}

var requests = sync.Pool{New: func() any { return new(request) }}

// lead takes requests until the device stops or another goroutine leads.
func (g *ring) lead() {
	defer g.wg.Done()
	err := g.queue.RunWith(g.drain, g.wait)
	if !errors.Is(err, errRelieved) && !errors.Is(err, virtio.ErrStopped) {
		g.fail(err)
	}
}

// wait waits for the next kick, after the workers that the leader has just started had
// their turn: a thread that blocks in the kernel leaves them to be found by another.
func (g *ring) wait() error {
	if len(g.slots) > 0 {
		runtime.Gosched()
	}
	return g.waiter.Kicked(g.queue)
}

// drain serves requests until the queue is empty.
func (g *ring) drain() error {
	for {
		if g.stopping.Load() {
			return virtio.ErrStopped
		}
		r := requests.Get().(*request)
		ok, err := g.queue.Pop(&r.chain)
		if !ok || err != nil {
			requests.Put(r)
			return err
		}
		r.fuse = export.Request{Readable: r.chain.Readable, Writable: r.chain.Writable}
		if err := g.dispatch(r); err != nil {
			return err
		}
	}
}

// dispatch decides who serves r.
func (g *ring) dispatch(r *request) error {
	switch {
	case r.fuse.Waits():
		// It holds no thread while it waits, and takes no slot: the release
		// of the lock must find one. The size of the ring bounds them.
		g.wg.Add(1)
		go g.work(r, func() {})
		return nil
	case !g.urgent && (r.fuse.Slow() || !g.queue.Empty()) && g.takeSlot():
		g.wg.Add(1)
		go g.work(r, g.freeSlot)
		return nil
	default:
		return g.serveAsLeader(r)
	}
}

func (g *ring) work(r *request, release func()) {
	defer g.wg.Done()
	defer release()
	g.serve(r)
}

// serve answers r and gives its buffer back.
func (g *ring) serve(r *request) {
	n := g.server.Handle(&r.fuse)
	g.queue.Push(r.chain.Head, uint32(n))
	g.queue.Notify()
	requests.Put(r)
}

// serveAsLeader serves r; if that took long and there is a new leader, it
// returns errRelieved.
func (g *ring) serveAsLeader(r *request) error {
	g.mu.Lock()
	g.last++
	mine := g.last
	g.serving = mine
	if !g.watched {
		g.watched = true
		g.timer.Reset(patience)
	}
	g.mu.Unlock()

	g.serve(r)

	g.mu.Lock()
	defer g.mu.Unlock()
	if g.serving != mine {
		g.freeSlot() // taken by watch
		return errRelieved
	}
	g.serving = 0
	return nil
}

// watch runs when the timer rings: it relieves a leader that serves the same
// request as the last time, and stops when nothing has come since.
func (g *ring) watch() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.serving == 0 && g.seen == g.last {
		g.watched = false
		return
	}
	if g.serving != 0 && g.serving == g.seen && g.takeSlot() {
		g.serving = 0
		g.wg.Add(1) // the present leader still counts: it has yet to take mu
		go g.lead()
	}
	g.seen = g.last
	g.timer.Reset(patience)
}
