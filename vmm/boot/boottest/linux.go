package boottest

import (
	"debug/elf"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/microvm/microvm/rootfs/guestimage"
)

// KernelVariable names the environment variable with the path of a guest
// kernel, for tests that boot Linux.
const KernelVariable = "MICROVM_KERNEL"

// Kernel opens the guest kernel, or skips the test when there is none.
func Kernel(t testing.TB) *os.File {
	t.Helper()
	path := os.Getenv(KernelVariable)
	if path == "" {
		t.Skipf("needs a guest kernel: %s names none", KernelVariable)
	}
	return open(t, path)
}

// Initramfs makes an initramfs whose init is the running test: its TestMain
// finds itself to be process 1.
func Initramfs(t testing.TB) *os.File {
	t.Helper()
	binary, err := staticTest()
	if err != nil {
		t.Fatal(err)
	}
	info, err := binary.Stat()
	if err != nil {
		t.Fatal(err)
	}
	archive, err := os.Create(filepath.Join(t.TempDir(), "initramfs"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { archive.Close() })
	if err := guestimage.WriteInitramfs(archive, io.NewSectionReader(binary, 0, info.Size()), info.Size()); err != nil {
		t.Fatal(err)
	}
	return archive
}

func open(t testing.TB, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// staticTest opens the running test, or a static build of it: with the race
// detector a test needs a dynamic loader, which a guest has not.
var staticTest = sync.OnceValues(func() (*os.File, error) {
	exe, err := os.Executable()
	if err != nil || static(exe) {
		return os.Open(exe)
	}
	dir, err := os.MkdirTemp("", "static-test")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) // the open file stays
	build := exec.Command("go", "test", "-c", "-o", dir+"/test", ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build a static test: %w: %s", err, text)
	}
	return os.Open(dir + "/test")
})

func static(path string) bool {
	f, err := elf.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return false
		}
	}
	return true
}
