// Package watch lets processes of the guest that watch files (inotify(7),
// fanotify(7)) know what the host does to these, see package rootfs/changes.
//
// What is watched is read from /proc/PID/fdinfo: the kernel tells nobody of a
// new watch, so it is looked for again and again.
package watch

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/rootfs/changes"
)

// How long a new watch may stay unseen. The search is to take a hundredth of a
// processor at most, so that it is rarer where there are many processes.
const (
	shortest = 400 * time.Millisecond
	longest  = 5 * time.Second // see Relay.Longest
	share    = 100
)

// Relay passes changes on the host on to the guest's processes. It is for one
// thread.
type Relay struct {
	// Longest is the longest time between two searches, 5 s unless it is
	// changed before Run.
	Longest time.Duration

	dir     string // where the share is mounted
	scanner scanner
	root    int             // open while something is watched, or -1
	watched map[uint64]bool // what the host knows of
}

// New makes a relay for the share that is mounted at dir.
func New(dir string) (*Relay, error) {
	s, err := newScanner(dir)
	if err != nil {
		return nil, err
	}
	return &Relay{Longest: longest, dir: dir, scanner: s, root: -1, watched: map[uint64]bool{}}, nil
}

// Run relays until that is impossible. It belongs on a thread of its own, which
// the host knows as the agent's.
func (r *Relay) Run() error {
	defer r.close()
	for {
		began := processorTime()
		found := r.scanner.scan()
		pause := min(max((processorTime()-began)*share, shortest), r.Longest)
		if err := r.report(found); err != nil {
			return err
		}
		if err := r.relay(time.Now().Add(pause)); err != nil {
			return err
		}
	}
}

// processorTime is what this thread has used.
func processorTime() time.Duration {
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts) // cannot fail with a valid clock
	return time.Duration(ts.Nano())
}

// report tells the host of the watches that are new, and of those that ended.
func (r *Relay) report(found map[uint64]bool) error {
	if len(found)+len(r.watched) == 0 {
		return nil
	}
	if err := r.openRoot(); err != nil {
		return err
	}
	if err := sendIDs(r.root, changes.Unwatch, missing(r.watched, found)); err != nil {
		return fmt.Errorf("end watches: %w", err)
	}
	if err := sendIDs(r.root, changes.Watch, missing(found, r.watched)); err != nil {
		return fmt.Errorf("begin watches: %w", err)
	}
	r.watched = found
	if len(found) == 0 {
		r.close()
	}
	return nil
}

// missing returns what is in a but not in b.
func missing(a, b map[uint64]bool) (ids []uint64) {
	for id := range a {
		if !b[id] {
			ids = append(ids, id)
		}
	}
	return ids
}

// openRoot opens the share's root, which keeps it from being unmounted.
func (r *Relay) openRoot() (err error) {
	if r.root >= 0 {
		return nil
	}
	if r.root, err = unix.Open(r.dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("open %s: %w", r.dir, err)
	}
	return nil
}

func (r *Relay) close() {
	if r.root >= 0 {
		unix.Close(r.root)
		r.root = -1
	}
}

// relay passes on what happens until the given time.
func (r *Relay) relay(until time.Time) error {
	for {
		left := time.Until(until)
		switch {
		case left <= 0:
			return nil
		case r.root < 0:
			time.Sleep(left)
			continue
		}
		c, err := nextChange(r.root, left)
		if err != nil {
			return fmt.Errorf("wait for changes: %w", err)
		}
		// It fails when the file has changed again meanwhile, of which
		// another change tells.
		_ = r.repeat(&c)
	}
}
