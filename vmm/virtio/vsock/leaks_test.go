package vsock_test

import (
	"os"
	"runtime"
	"testing"
	"time"
)

// checkLeaks fails the test when it ends with more goroutines or descriptors
// than it began with.
func checkLeaks(t testing.TB) {
	t.Helper()
	goroutines, files := runtime.NumGoroutine(), countFiles(t)
	t.Cleanup(func() {
		var g, f int
		for range 200 {
			if g, f = runtime.NumGoroutine(), countFiles(t); g <= goroutines && f <= files {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		if t.Failed() {
			return
		}
		buf := make([]byte, 1<<20)
		t.Errorf("%d goroutines and %d descriptors before, %d and %d after\n%s",
			goroutines, files, g, f, buf[:runtime.Stack(buf, true)])
	})
}

func countFiles(t testing.TB) int {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(d)
}
