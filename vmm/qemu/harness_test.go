package qemu

import (
	"bytes"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/microvm/microvm/vmm/boot/boottest"
)

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

// kernel opens the guest kernel; the test is skipped unless that and QEMU are
// there.
func kernel(t *testing.T) *os.File {
	t.Helper()
	if _, err := find(""); err != nil {
		t.Skip(err)
	}
	return boottest.Kernel(t)
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
		CPUs: 1, Memory: 256 << 20, Kernel: kernel(t), Initramfs: boottest.Initramfs(t),
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
