package net

import "sync/atomic"

// Stats counts frames and their bytes, without headers of virtio's. Received
// is what the guest got, Sent is what it sent. SentForeign are those of SentDropped
// that came from an address which is not the guest's.
type Stats struct {
	Received, ReceivedBytes, ReceivedDropped  uint64
	Sent, SentBytes, SentDropped, SentForeign uint64
}

// direction counts one way.
type direction struct{ frames, bytes, dropped atomic.Uint64 }

func (d *direction) add(bytes int) {
	d.frames.Add(1)
	d.bytes.Add(uint64(bytes))
}

type counters struct {
	rx, tx  direction
	foreign atomic.Uint64
}

func (c *counters) stats() Stats {
	return Stats{
		Received: c.rx.frames.Load(), ReceivedBytes: c.rx.bytes.Load(), ReceivedDropped: c.rx.dropped.Load(),
		Sent: c.tx.frames.Load(), SentBytes: c.tx.bytes.Load(), SentDropped: c.tx.dropped.Load(),
		SentForeign: c.foreign.Load(),
	}
}
