package export

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestFallocateInEveryMode does to a file of the export, and to one of the host's own,
// what each mode does.
func TestFallocateInEveryMode(t *testing.T) {
	const block = 4096
	content := make([]byte, 8*block)
	for i := range content {
		content[i] = byte(1 + i/block)
	}
	dir, plain := t.TempDir(), filepath.Join(t.TempDir(), "plain")
	c := newClient(t, Options{}, map[string]string{"in": dir})
	for _, mode := range []uint32{
		0, unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_PUNCH_HOLE,
		unix.FALLOC_FL_ZERO_RANGE, unix.FALLOC_FL_ZERO_RANGE | unix.FALLOC_FL_KEEP_SIZE,
		unix.FALLOC_FL_COLLAPSE_RANGE, unix.FALLOC_FL_INSERT_RANGE, unix.FALLOC_FL_UNSHARE_RANGE, 1 << 30,
	} {
		for _, off := range []uint64{block, 7 * block, 1 << 33} {
			name := fmt.Sprintf("%x-%x", mode, off)
			shared := filepath.Join(dir, name)
			for _, path := range []string{shared, plain} {
				if err := os.WriteFile(path, content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			file := c.lookup("in", name)
			_, errno := c.call(opFallocate, file, c.open(file, unix.O_RDWR), off, uint64(2*block), mode, uint32(0))
			if want := fallocate(t, plain, mode, int64(off), 2*block); errno != want {
				t.Errorf("mode %#x at %#x: %v, want %v", mode, off, errno, want)
			}
			if got, want := sizeAndHead(t, shared), sizeAndHead(t, plain); got != want {
				t.Errorf("mode %#x at %#x leaves another file than on the host", mode, off)
			}
			if err := os.Remove(shared); err != nil { // or the host is full
				t.Fatal(err)
			}
		}
	}
}

func fallocate(t *testing.T, path string, mode uint32, off, length int64) unix.Errno {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), mode, off, length); err != nil {
		return err.(unix.Errno)
	}
	return 0
}

// sizeAndHead is the length of a file, the space it takes, and its first bytes.
func sizeAndHead(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	head := make([]byte, 64<<10)
	n, _ := f.Read(head)
	return fmt.Sprint(st.Size, st.Blocks, head[:n])
}
