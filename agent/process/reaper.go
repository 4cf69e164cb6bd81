package process

import (
	"os"
	"os/signal"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Reaper waits for children that nobody else waits for: processes whose parent
// ended before them become children of PID 1, the agent. The agent's own
// children, which libcontainer starts and waits for, are never touched.
type Reaper struct {
	signals chan os.Signal
	stop    chan struct{}
	done    chan struct{}

	mu    sync.Mutex
	busy  int              // how many calls may have children that are not in owned yet
	owned map[int]struct{} // pids that somebody waits for
}

// retryAfter is how long the reaper leaves an ended child to its owner before
// it looks behind it.
const retryAfter = 20 * time.Millisecond

// NewReaper starts a reaper. Close ends it.
func NewReaper() *Reaper {
	r := &Reaper{
		signals: make(chan os.Signal, 1),
		stop:    make(chan struct{}),
		done:    make(chan struct{}),
		owned:   make(map[int]struct{}),
	}
	signal.Notify(r.signals, unix.SIGCHLD)
	go r.run()
	return r
}

// Close ends the reaper.
func (r *Reaper) Close() {
	signal.Stop(r.signals)
	close(r.stop)
	<-r.done
}

// hold keeps the reaper off all children until the returned function is
// called, for as long as the caller has children that only it knows.
func (r *Reaper) hold() (release func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.busy++
	return r.release
}

func (r *Reaper) release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.busy--; r.busy == 0 {
		r.nudge()
	}
}

// own says that somebody waits for pid. To be called between hold and release.
func (r *Reaper) own(pid int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.owned[pid] = struct{}{}
}

// disown says that pid has been waited for.
func (r *Reaper) disown(pid int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.owned, pid)
}

func (r *Reaper) nudge() {
	select {
	case r.signals <- unix.SIGCHLD:
	default:
	}
}

func (r *Reaper) run() {
	defer close(r.done)
	var retry <-chan time.Time
	for {
		select {
		case <-r.stop:
			return
		case <-r.signals:
		case <-retry:
		}
		retry = nil
		if !r.sweep() {
			retry = time.After(retryAfter)
		}
	}
}

// sweep takes ended orphans. It returns false if an ended child of somebody
// else's may hide others; while calls hold the reaper off, the last of them
// nudges it.
func (r *Reaper) sweep() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.busy == 0 {
		pid, err := peekExited()
		if err != nil || pid == 0 {
			return true
		}
		if _, ok := r.owned[pid]; ok {
			return false
		}
		unix.Wait4(pid, nil, unix.WNOHANG, nil)
	}
	return true
}
