package qemu

import (
	"bytes"
	"strings"
	"sync"
)

// maxStderr is how much of QEMU's complaints is kept, in bytes.
const maxStderr = 4 << 10

// stderr keeps the beginning of what QEMU complains of: the first complaint is
// the cause of those that follow.
type stderr struct {
	mu   sync.Mutex
	text []byte
}

// Write implements io.Writer; it takes everything.
func (s *stderr) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text = append(s.text, p[:min(len(p), maxStderr-len(s.text))]...)
	return len(p), nil
}

func (s *stderr) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.TrimSpace(string(s.text))
}

// tripleFaultMark is what QEMU logs when a processor gives up.
const tripleFaultMark = "Triple fault"

// resetLog looks for tripleFaultMark in what is written to it. Only one
// goroutine may use it.
type resetLog struct {
	tail  []byte // the end of the last write, where a mark may begin
	fault bool
}

// Write implements io.Writer; it takes everything.
func (l *resetLog) Write(p []byte) (int, error) {
	text := append(l.tail, p...)
	l.fault = l.fault || bytes.Contains(text, []byte(tripleFaultMark))
	l.tail = append(l.tail[:0], text[max(0, len(text)-len(tripleFaultMark)+1):]...)
	return len(p), nil
}
