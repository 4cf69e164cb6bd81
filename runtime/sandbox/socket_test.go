package sandbox

import (
	"bufio"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// crowd makes a socket with room for very few that wait.
func crowd(t *testing.T) (path string, l net.Listener) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "vsock.sock")
	f, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Listen(int(f.Fd()), 1); err != nil {
		t.Fatal(err)
	}
	if l, err = net.FileListener(f); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return path, l
}

// TestSocketIsForNobodyElse makes one under a umask that allows everything.
func TestSocketIsForNobodyElse(t *testing.T) {
	before := unix.Umask(0)
	defer unix.Umask(before)
	path := filepath.Join(t.TempDir(), "vsock.sock")
	f, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// TestDialOfACrowdedSocket waits until the machine takes connections.
func TestDialOfACrowdedSocket(t *testing.T) {
	path, l := crowd(t)
	var dials sync.WaitGroup
	for range 20 {
		dials.Go(func() {
			c, err := Dial(t.Context(), path, 1)
			if err != nil {
				t.Errorf("dial: %v", err)
				return
			}
			c.Close()
		})
	}
	time.Sleep(20 * time.Millisecond) // the backlog is likely to be full by now
	go answer(l)
	dials.Wait()
}

// answer lets every client connect until the listener is closed.
func answer(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		if _, err := bufio.NewReader(c).ReadString('\n'); err == nil {
			_, _ = c.Write([]byte("OK 1\n")) // the client says what is wrong
		}
		c.Close()
	}
}

func TestDialGivesUpWithItsContext(t *testing.T) {
	path, _ := crowd(t)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	var dials sync.WaitGroup
	for range 5 {
		dials.Go(func() {
			if _, err := Dial(ctx, path, 1); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("dial: %v", err)
			}
		})
	}
	dials.Wait()
}
