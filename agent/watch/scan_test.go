package watch

import (
	"os"
	"runtime"
	"testing"
)

func TestWatchesAreRead(t *testing.T) {
	s := scanner{devices: devices{known: map[uint64]bool{0x1a: true}}}
	for line, want := range map[string]uint64{
		// As Linux 6.12 writes them for inotify and fanotify.
		"inotify wd:1 ino:5 sdev:1a mask:fc6 ignored_mask:0 fhandle-bytes:c fhandle-type:81 f_handle:010000000700000000000000\n":    1<<32 | 7,
		"fanotify ino:5 sdev:1a mflags:0 mask:2 ignored_mask:0 fhandle-bytes:c fhandle-type:81 f_handle:000000000700000000000000\n": 7,
		"inotify wd:1 ino:5 sdev:1b mask:fc6 ignored_mask:0 fhandle-bytes:c fhandle-type:81 f_handle:000000000700000000000000\n":    0,
		"inotify wd:1 ino:5 sdev:1a mask:fc6 ignored_mask:0 fhandle-bytes:8 fhandle-type:1 f_handle:0500000000000000\n":             0,
		"inotify wd:1 ino:5 sdev:1a mask:fc6 ignored_mask:0 fhandle-bytes:c fhandle-type:81 f_handle:0000\n":                        0,
		"fanotify mnt_id:1c mflags:0 mask:2 ignored_mask:0\n":                                                                       0,
		"pos:\t0\n": 0,
		"":          0,
	} {
		if got, ok := s.nodeOf(line); got != want || ok != (want != 0) {
			t.Errorf("%q: %d, %v", line, got, ok)
		}
	}
}

// BenchmarkScan has a process more than this machine, with a hundred files.
func BenchmarkScan(b *testing.B) {
	for range 100 {
		f, err := os.Open("/")
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	s, err := newScanner("/proc") // any mount
	if err != nil {
		b.Fatal(err)
	}
	list, _ := os.ReadDir("/proc")
	n := 0
	for _, e := range list {
		fds, _ := os.ReadDir("/proc/" + e.Name() + "/fd")
		n += len(fds)
	}
	began := processorTime()
	for b.Loop() {
		s.scan()
	}
	b.ReportMetric(float64(processorTime()-began)/float64(b.N)/float64(n), "ns/descriptor")
	b.ReportMetric(float64(n), "descriptors")
}
