package qemu

import (
	"bytes"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/microvm/microvm/rootfs/guestimage"
)

// kernelVariable names the guest kernel.
const kernelVariable = "MICROVM_KERNEL"

// console keeps all that the guest prints, up to a bound.
type console struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.buf.Len() < 16<<20 {
		c.buf.Write(p)
	}
	return len(p), nil
}

func (c *console) Bytes() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.Clone(c.buf.Bytes())
}

func (c *console) Panicked() bool {
	return bytes.Contains(c.Bytes(), []byte("Kernel panic - not syncing"))
}

// waitFor returns when the console has text.
func (c *console) waitFor(t *testing.T, text string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if bytes.Contains(c.Bytes(), []byte(text)) {
			return
		}
	}
	t.Fatalf("guest did not print %q in a minute; console:\n%s", text, c.Bytes())
}

// needs skips the test unless QEMU and a guest kernel are there.
func needs(t *testing.T) (kernel *os.File) {
	t.Helper()
	path := os.Getenv(kernelVariable)
	if path == "" {
		t.Skipf("needs a guest kernel: %s names none", kernelVariable)
	}
	if _, err := find(""); err != nil {
		t.Skip(err)
	}
	return open(t, path)
}

func open(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// config is a machine that boots this test binary and runs the guest half
// called name.
func config(t *testing.T, name string) (Config, *console) {
	t.Helper()
	out := new(console)
	log := logrus.New()
	log.SetOutput(t.Output())
	return Config{
		CPUs: 1, Memory: 256 << 20, Kernel: needs(t), Initramfs: initramfs(t),
		Cmdline: guestTestVariable + "=" + name, Console: out,
		Log: logrus.NewEntry(log),
	}, out
}

// start starts a machine that ends with the test.
func start(t *testing.T, cfg Config) *Machine {
	t.Helper()
	m, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	m.Settle()
	m.Resume()
	return m
}

// finish waits for the end of m, which must have the given reason.
func finish(t *testing.T, m *Machine, out *console, want string) {
	t.Helper()
	timer := time.AfterFunc(2*time.Minute, m.Stop)
	defer timer.Stop()
	reason, err := m.Wait()
	if os.Getenv("MICROVM_TEST_CONSOLE") != "" {
		t.Logf("%s", out.Bytes())
	}
	if reason != want {
		t.Fatalf("ended with %q (%v), want %q; console:\n%s", reason, err, want, out.Bytes())
	}
}

// run runs the guest half called name to its end.
func run(t *testing.T, name, want string, change func(*Config)) *console {
	t.Helper()
	cfg, out := config(t, name)
	if change != nil {
		change(&cfg)
	}
	finish(t, start(t, cfg), out, want)
	return out
}

var guestBinary = sync.OnceValues(buildGuest)

// guestDir is where buildGuest built, for TestMain to remove.
var guestDir string

// buildGuest returns a static build of this test: the running one may need a
// dynamic loader, as with the race detector, which a guest has not.
func buildGuest() (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	if static(exe) {
		return exe, nil
	}
	if guestDir, err = os.MkdirTemp("", "qemu-test"); err != nil {
		return "", err
	}
	path := filepath.Join(guestDir, "init")
	build := exec.Command("go", "test", "-c", "-o", path, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", &os.PathError{Op: "build guest: " + string(out), Path: path, Err: err}
	}
	return path, nil
}

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

// initramfs is an archive whose only file is this test.
func initramfs(t *testing.T) *os.File {
	t.Helper()
	path, err := guestBinary()
	if err != nil {
		t.Fatal(err)
	}
	binary := open(t, path)
	defer binary.Close()
	info, err := binary.Stat()
	if err != nil {
		t.Fatal(err)
	}
	archive, err := os.Create(filepath.Join(t.TempDir(), "initramfs"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { archive.Close() })
	if err := guestimage.WriteInitramfs(archive, binary, info.Size()); err != nil {
		t.Fatal(err)
	}
	return archive
}
