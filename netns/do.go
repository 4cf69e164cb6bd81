package netns

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Namespace is an open network namespace, which lives as long as it is open.
type Namespace struct{ f *os.File }

// Current opens the calling thread's namespace.
func Current() (*Namespace, error) { return Open("/proc/thread-self/ns/net") }

// Open opens the namespace at path, such as /proc/PID/ns/net.
func Open(path string) (*Namespace, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open network namespace: %w", err)
	}
	return &Namespace{f}, nil
}

// Do calls f on a thread in the namespace, which ends with f, and returns its
// error.
func (n *Namespace) Do(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		if err := unix.Setns(int(n.f.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("join network namespace: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}

// Close closes the namespace.
func (n *Namespace) Close() error { return n.f.Close() }
