package vmm

import (
	"io"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/microvm/microvm/vmm/virtio"
)

func discard() *logrus.Entry {
	l := logrus.New()
	l.SetOutput(io.Discard)
	return logrus.NewEntry(l)
}

// limiter lets a record through now and then: what a guest can cause, it can
// cause without end.
type limiter struct {
	mu      sync.Mutex
	next    time.Time
	dropped int
}

// logInterval is the shortest time between two records of one limiter.
const logInterval = time.Second

// allow says whether to log now, and how many were dropped since the last.
func (l *limiter) allow(now time.Time) (ok bool, dropped int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Before(l.next) {
		l.dropped++
		return false, 0
	}
	dropped, l.dropped, l.next = l.dropped, 0, now.Add(logInterval)
	return true, dropped
}

// reportMiss logs accesses that no device answers. A kernel that looks for
// hardware makes some; they matter only when something is wrong.
func (v *VM) reportMiss(bus string) func(addr uint64, width int, write bool) {
	var l limiter
	return func(addr uint64, width int, write bool) {
		if !v.log.Logger.IsLevelEnabled(logrus.DebugLevel) {
			return
		}
		if ok, dropped := l.allow(time.Now()); ok {
			v.log.WithFields(logrus.Fields{"bus": bus, "addr": addr, "width": width, "write": write, "dropped": dropped}).
				Debug("no device answers")
		}
	}
}

// reportFault logs what dev or its driver got wrong.
func (v *VM) reportFault(dev virtio.Device) func(error) {
	var l limiter
	return func(err error) {
		if ok, dropped := l.allow(time.Now()); ok {
			v.log.WithError(err).WithFields(logrus.Fields{"device": uint32(dev.ID()), "dropped": dropped}).
				Warn("virtio device broke down")
		}
	}
}
