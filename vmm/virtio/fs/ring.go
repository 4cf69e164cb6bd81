package fs

import (
	"errors"
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
	queue *virtio.Queue
	// urgent says that nothing on the queue takes long (forgets), so that it
	// is served in order.
	urgent bool
	timer  *time.Timer // rings when the leader should be relieved

	mu sync.Mutex
	// serving numbers the request that the leader serves itself, 0 if none;
	// last is the latest number.
	serving, last uint64
}

// patience is how long a request may keep the leader from the queue.
const patience = 200 * time.Microsecond

// Why a leader ends besides a broken ring.
var (
	errRelieved = errors.New("another goroutine leads")
	errStopping = errors.New("device is being reset")
)

func newRing(r *run, q *virtio.Queue, urgent bool) *ring {
	g := &ring{run: r, queue: q, urgent: urgent}
	g.timer = time.AfterFunc(time.Hour, g.relieve)
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
	err := g.queue.Run(g.drain)
	if errors.Is(err, queue.ErrBroken) {
		g.fail(err)
	}
}

// drain serves requests until the queue is empty.
func (g *ring) drain() error {
	for {
		if g.stopping.Load() {
			return errStopping
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
	case !g.urgent && !g.queue.Empty() && g.takeSlot():
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
	g.mu.Unlock()
	g.timer.Reset(patience)

	g.serve(r)

	g.mu.Lock()
	defer g.mu.Unlock()
	if g.serving != mine {
		g.freeSlot() // taken by relieve
		return errRelieved
	}
	g.serving = 0
	g.timer.Stop()
	return nil
}

// relieve makes a new leader if the present one is busy. It runs when the
// timer rings; a late ring may meet the next request, which does no harm.
func (g *ring) relieve() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.serving == 0 {
		return
	}
	if !g.takeSlot() {
		g.timer.Reset(patience)
		return
	}
	g.serving = 0
	g.wg.Add(1) // the present leader still counts: it has yet to take mu
	go g.lead()
}
