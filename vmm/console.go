package vmm

import (
	"bytes"
	"sync"
)

// consoleSize is how much of its end a Console keeps, in bytes.
const consoleSize = 64 << 10

// Console keeps the end of what the guest's kernel has printed. The zero value
// is ready. It is safe for concurrent use, never blocks and never fails.
type Console struct {
	mu   sync.Mutex
	ring []byte // full once it has consoleSize bytes
	next int    // where the next byte goes once it is full
}

// Write implements io.Writer.
func (c *Console) Write(p []byte) (int, error) {
	n := len(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	if room := consoleSize - len(c.ring); room > 0 {
		k := min(room, len(p))
		c.ring = append(c.ring, p[:k]...)
		p = p[k:]
	}
	if len(p) > consoleSize {
		p = p[len(p)-consoleSize:]
	}
	for len(p) > 0 {
		k := copy(c.ring[c.next:], p)
		c.next = (c.next + k) % consoleSize
		p = p[k:]
	}
	return n, nil
}

// Bytes returns a copy of what is kept, oldest first.
func (c *Console) Bytes() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append(bytes.Clone(c.ring[c.next:]), c.ring[:c.next]...)
}

// panicMark is how Linux begins its last words.
var panicMark = []byte("Kernel panic - not syncing")

// Panicked says that the guest's kernel has reported a panic.
func (c *Console) Panicked() bool { return bytes.Contains(c.Bytes(), panicMark) }
