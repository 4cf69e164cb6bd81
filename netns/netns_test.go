package netns

import (
	"net"
	"os"
	"runtime"
	"testing"
)

// onThread runs f on a thread that nobody uses afterwards.
func onThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		f()
	}()
	<-done
}

const self = "/proc/thread-self/ns/net"

func TestNewIsEmptyAndCanBeJoined(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	host, err := os.Readlink(self)
	if err != nil {
		t.Fatal(err)
	}
	onThread(func() {
		if err := New(); err != nil {
			t.Error(err)
			return
		}
		fresh, err := os.Readlink(self)
		if err != nil || fresh == host {
			t.Errorf("namespace %s, %v", fresh, err)
		}
		all, err := net.Interfaces()
		if err != nil || len(all) != 1 || all[0].Flags&net.FlagUp == 0 {
			t.Errorf("interfaces %v, %v", all, err)
		}
		if err := Join("/proc/self/ns/net"); err != nil {
			t.Error(err)
		}
	})
	if now, err := os.Readlink(self); err != nil || now != host {
		t.Errorf("this thread is in %s, not %s: %v", now, host, err)
	}
}

func TestJoinOfNothing(t *testing.T) {
	if err := Join("/no/such/namespace"); err == nil {
		t.Error("joined nothing")
	}
	if err := Join("/dev/null"); err == nil {
		t.Error("joined /dev/null")
	}
}
