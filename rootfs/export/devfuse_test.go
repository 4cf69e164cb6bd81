package export_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/microvm/microvm/rootfs/export"
	"golang.org/x/sys/unix"
)

// A transport over /dev/fuse, so that this machine's own kernel can use the
// server. It runs in a process of its own: a process must not wait for a mount
// that it serves itself.

// mountEnv makes the test binary a server; it holds a mountConfig as JSON.
const mountEnv = "MICROVM_TEST_EXPORT_MOUNT"

type mountConfig struct {
	Mountpoint string
	Exports    []mountExport
	Agent      uint32
	Locks      bool
	Submounts  bool
	Cached     int
}

type mountExport struct {
	Name, Path string
	Policy     export.Policy
}

func TestMain(m *testing.M) {
	if c := os.Getenv(mountEnv); c != "" {
		if err := serveMount([]byte(c)); err != nil {
			log.Fatal(err)
		}
		return
	}
	os.Exit(m.Run())
}

// mount serves c at a new directory and returns its path.
func mount(t testing.TB, c mountConfig) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skip("no /dev/fuse")
	}
	c.Mountpoint = filepath.Join(t.TempDir(), "mnt")
	if err := os.Mkdir(c.Mountpoint, 0o755); err != nil {
		t.Fatal(err)
	}
	config, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), mountEnv+"="+string(config))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error("server:", err)
		}
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatal("server did not start:", line, err)
	}
	return c.Mountpoint
}

// serveMount runs in the server's process until its standard input ends.
func serveMount(config []byte) error {
	var c mountConfig
	if err := json.Unmarshal(config, &c); err != nil {
		return err
	}
	s, err := export.NewServer(export.Options{Agent: c.Agent, Locks: c.Locks, Submounts: c.Submounts, CachedDescriptors: c.Cached, Logf: log.Printf})
	if err != nil {
		return err
	}
	for _, e := range c.Exports {
		if err := addPath(s, e); err != nil {
			return err
		}
	}
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other,max_read=%d", fd, 1<<20)
	if err := unix.Mount("microvm", c.Mountpoint, "fuse.microvm", 0, options); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	leave, err := enterEmptyRoot()
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { serveDevice(s, fd) })
	}
	fmt.Println("ready")
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		log.Print(err)
	}
	if err := leave(); err != nil {
		return err
	}
	if err := unix.Unmount(c.Mountpoint, 0); err != nil {
		log.Print("unmount: ", err)
		_ = unix.Unmount(c.Mountpoint, unix.MNT_DETACH)
	}
	wg.Wait()
	if n := s.Malformed(); n != 0 {
		return fmt.Errorf("%d requests of the kernel were found malformed", n)
	}
	return s.Close()
}

// enterEmptyRoot takes every path away, as the jail of a VM process does:
// whatever the server opens from now on, it opens by descriptor.
func enterEmptyRoot() (leave func() error, err error) {
	root, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	empty, err := os.MkdirTemp("", "empty")
	if err != nil {
		return nil, err
	}
	if err := errors.Join(unix.Chroot(empty), unix.Chdir("/")); err != nil {
		return nil, err
	}
	return func() error {
		return errors.Join(unix.Fchdir(root), unix.Chroot("."), os.Remove(empty))
	}, nil
}

func addPath(s *export.Server, e mountExport) error {
	fd, err := unix.Open(e.Path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", e.Path, err)
	}
	f := os.NewFile(uintptr(fd), e.Path)
	defer f.Close()
	return s.AddExport(e.Name, f, e.Policy)
}

const deviceBuffer = 1<<20 + 64<<10

// serveDevice answers requests until the file system is unmounted.
func serveDevice(s *export.Server, fd int) {
	in, out := make([]byte, deviceBuffer), make([]byte, deviceBuffer)
	room := pages(out, 16)
	for {
		n, err := unix.Read(fd, in)
		switch {
		case err == unix.ENODEV:
			return
		case err != nil:
			continue // ENOENT: the request was interrupted; EINTR, EAGAIN
		}
		r := &export.Request{Readable: pages(in[:n], 40), Writable: room}
		if r.Waits() {
			reply := make([]byte, 4096)
			r = &export.Request{Readable: [][]byte{bytes.Clone(in[:n])}, Writable: [][]byte{reply}}
			go answer(s, fd, r, reply)
			continue
		}
		answer(s, fd, r, out)
	}
}

// answer serves r, whose segments to write to lie in out one after the other.
func answer(s *export.Server, fd int, r *export.Request, out []byte) {
	n := s.Handle(r)
	if n == 0 {
		return
	}
	// ENOENT: the request was interrupted and nobody waits for the answer.
	if _, err := unix.Write(fd, out[:n]); err != nil && !errors.Is(err, unix.ENOENT) {
		log.Printf("reply of %d bytes: %v", n, err)
	}
}

// pages cuts b as a guest's kernel would: a header, then pages.
func pages(b []byte, header int) [][]byte {
	header = min(header, len(b))
	bufs := [][]byte{b[:header:header]}
	for b = b[header:]; len(b) > 0; {
		n := min(4096, len(b))
		bufs = append(bufs, b[:n:n])
		b = b[n:]
	}
	return bufs
}
