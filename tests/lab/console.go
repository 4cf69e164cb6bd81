package lab

import (
	"io"
	"sync"
)

// consoleSize is how much of the end of the guest's console is kept, in bytes.
const consoleSize = 64 << 10

// console keeps the end of what the guest's kernel, QEMU and virtiofsd print.
type console struct {
	mu   sync.Mutex
	tail []byte
	copy io.Writer // gets everything at once; may be nil
}

func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.copy != nil {
		c.copy.Write(p)
	}
	c.tail = append(c.tail, p...)
	if surplus := len(c.tail) - consoleSize; surplus > 0 {
		c.tail = append(c.tail[:0], c.tail[surplus:]...)
	}
	return len(p), nil
}

// String is what was kept.
func (c *console) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.tail)
}
