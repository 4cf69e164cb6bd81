package net

import "time"

// Rate limits one way of a device, each a second; 0 does not. Bits are those of
// Ethernet frames, of which one may be as large as [maxFrame] where segmentation
// is the tap's.
type Rate struct{ Bits, Frames uint64 }

// credit is how much of a rate that was not made use of may be caught up with.
const credit = 50 * time.Millisecond

// pacer keeps frames to a rate. Each takes the time that the stricter of both
// limits says; the next may be moved when that is over.
type pacer struct {
	rate Rate
	next time.Time
}

// took says that a frame of so many bytes was moved.
func (p *pacer) took(bytes int) {
	if p.rate == (Rate{}) {
		return
	}
	if earliest := time.Now().Add(-credit); p.next.Before(earliest) {
		p.next = earliest
	}
	p.next = p.next.Add(p.rate.cost(bytes))
}

func (r Rate) cost(bytes int) (d time.Duration) {
	if r.Bits > 0 {
		d = time.Duration(float64(bytes) * 8 / float64(r.Bits) * float64(time.Second))
	}
	if r.Frames > 0 {
		d = max(d, time.Second/time.Duration(r.Frames))
	}
	return d
}

// wait is how long the next frame has to wait.
func (p *pacer) wait() time.Duration {
	if p.next.IsZero() {
		return 0
	}
	return time.Until(p.next)
}
