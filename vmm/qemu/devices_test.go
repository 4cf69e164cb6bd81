package qemu

import (
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/rootfs/export"
	"github.com/microvm/microvm/vmm/control"
	"github.com/microvm/microvm/vmm/virtio"
	"github.com/microvm/microvm/vmm/virtio/fs"
	"github.com/microvm/microvm/vmm/virtio/vsock"
)

// share makes a file-system device with the given exports.
func share(t *testing.T, exports map[string]export.Policy, dirs map[string]string) virtio.Device {
	t.Helper()
	server, err := export.NewServer(export.Options{Logf: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	for name, policy := range exports {
		if err := server.AddExport(name, open(t, dirs[name]), policy); err != nil {
			t.Fatal(err)
		}
	}
	d, err := fs.New(server, fs.Options{Tag: "exports"})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestFiles(t *testing.T) {
	data, fixed := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(data, "hello"), []byte("from the host"), 0o644); err != nil {
		t.Fatal(err)
	}
	const size = 32<<20 + 17
	sum := bigFile(t, data, "big", size)
	d := share(t, map[string]export.Policy{"data": {}, "fixed": {ReadOnly: true}},
		map[string]string{"data": data, "fixed": fixed})
	out := run(t, "files", control.ReasonPowerOff, func(c *Config) { c.CPUs = 2; c.Devices = []virtio.Device{d} })

	text := out.Bytes()
	if got := grep(text, "export "); !slices.Equal(got, []string{"data", "fixed"}) {
		t.Errorf("exports %q", got)
	}
	if got := grep(text, "read "); !slices.Equal(got, []string{`"from the host"`}) {
		t.Errorf("read %q", got)
	}
	if got := grep(text, "copied "); len(got) != 1 || !strings.HasSuffix(got[0], sum) {
		t.Errorf("copied %q, want %s; console:\n%s", got, sum, text)
	}
	checkFiles(t, data)
}

// checkFiles looks at what the guest half left behind.
func checkFiles(t *testing.T, dir string) {
	t.Helper()
	answer, err := os.ReadFile(filepath.Join(dir, "answer"))
	if err != nil || string(answer) != "from the guest" {
		t.Errorf("%q, %v", answer, err)
	}
	if target, err := os.Readlink(filepath.Join(dir, "a/b/moved")); err != nil || target != "../answer" {
		t.Errorf("%q, %v", target, err)
	}
	big, err1 := os.ReadFile(filepath.Join(dir, "big"))
	copied, err2 := os.ReadFile(filepath.Join(dir, "copy"))
	if err1 != nil || err2 != nil || !bytes.Equal(big, copied) {
		t.Errorf("copies differ: %d and %d bytes, %v, %v", len(big), len(copied), err1, err2)
	}
}

// unixPair makes a connected pair, the first for a configuration.
func unixPair(t *testing.T) (*os.File, *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	near := os.NewFile(uintptr(fds[1]), "near")
	defer near.Close()
	c, err := net.FileConn(near)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return os.NewFile(uintptr(fds[0]), "far"), c.(*net.UnixConn)
}

func TestStreams(t *testing.T) {
	far, ready := unixPair(t)
	d := vsock.New(vsock.Config{
		GuestCID: 3, Dial: vsock.Outbound(map[uint32]*os.File{readyPort: far}),
		Warn: func(err error) { t.Error(err) },
	})
	defer d.Close()
	cfg, out := config(t, "streams")
	cfg.Devices = []virtio.Device{d}
	m := start(t, cfg)
	_ = ready.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.ReadFull(ready, make([]byte, len("ready\n"))); err != nil {
		m.Stop()
		reason, cause := m.Wait()
		t.Fatalf("guest is not ready: %v; ended with %s (%v); console:\n%s", err, reason, cause, out.Bytes())
	}
	echoThrough(t, d)
	ready.Close()
	finish(t, m, out, control.ReasonPowerOff)
	if got := grep(out.Bytes(), "echoed "); !slices.Equal(got, []string{"8388608 bytes"}) {
		t.Errorf("%q", got)
	}
}

// echoThrough sends 8 MiB to the guest and compares what comes back.
func echoThrough(t *testing.T, d *vsock.Device) {
	t.Helper()
	far, near := unixPair(t)
	remote, err := net.FileConn(far)
	far.Close()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Connect(echoPort, remote.(*net.UnixConn)); err != nil {
		t.Fatal(err)
	}
	sent := bytes.Repeat([]byte("0123456789abcde\n"), 512<<10)
	go func() {
		_, _ = near.Write(sent)
		_ = near.CloseWrite()
	}()
	got, err := io.ReadAll(near)
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d bytes came back, sent %d: %v", len(got), len(sent), err)
	}
}

// TestBothDevices is the set that a real machine has.
func TestBothDevices(t *testing.T) {
	d := share(t, nil, nil)
	v := vsock.New(vsock.Config{GuestCID: 3})
	defer v.Close()
	run(t, "poweroff", control.ReasonPowerOff, func(c *Config) { c.CPUs = 2; c.Devices = []virtio.Device{d, v} })
}
