package vmm

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/microvm/microvm/vmm/boot/boottest"
	"github.com/microvm/microvm/vmm/control"
	"github.com/microvm/microvm/vmm/kvm/kvmtest"
	"github.com/microvm/microvm/vmm/virtio"
	"github.com/microvm/microvm/vmm/virtio/console"
	"github.com/microvm/microvm/vmm/virtio/rng"
)

// linux is a guest that boots this test binary.
type linux struct {
	vm      *VM
	console *Console
}

// newLinux assembles a guest whose init runs the guest half called name.
func newLinux(t *testing.T, name string, change func(*Config)) linux {
	t.Helper()
	kernel := boottest.Kernel(t)
	system := kvmtest.RequireHardware(t)
	c := Config{
		KVM: system, CPUs: 2, Memory: 256 << 20, Kernel: kernel, Initramfs: boottest.Initramfs(t),
		Cmdline: guestTestVariable + "=" + name, Console: new(Console), Debug: os.Getenv("MICROVM_TEST_CONSOLE") != "",
	}
	c.Devices = []virtio.Device{console.New(c.Console), rng.New()}
	if change != nil {
		change(&c)
	}
	vm, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := vm.Close(); err != nil {
			t.Error(err)
		}
	})
	return linux{vm, c.Console}
}

// run runs the guest to its end, which must have the given reason.
func (l linux) run(t *testing.T, reason string) string {
	t.Helper()
	start := time.Now()
	exit := l.vm.Run()
	out := string(l.console.Bytes())
	if os.Getenv("MICROVM_TEST_CONSOLE") != "" {
		t.Log(out)
	}
	t.Logf("ended after %v: %s %v", time.Since(start), exit.Reason, exit.Err)
	if exit.Reason != reason {
		t.Fatalf("ended with %q (%v), want %q; console:\n%s", exit.Reason, exit.Err, reason, out)
	}
	return out
}

func TestLinuxReachesInit(t *testing.T) {
	for _, test := range []struct {
		name, want string
		change     func(*Config)
	}{
		{"one processor", "guest has 1 processors", func(c *Config) { c.CPUs = 1 }},
		{"two processors", "guest has 2 processors", nil},
		{"more processors than the host", "guest has 5 processors", func(c *Config) { c.CPUs = 5 }},
		{"memory above 4 GiB", "guest has 2 processors", func(c *Config) { c.Memory = 5 << 30 }},
		{"64-bit entry", "guest has 2 processors", func(c *Config) { c.Kernel = withoutPVH(t, c.Kernel) }},
		{"least memory", "guest has 1 processors", func(c *Config) { c.CPUs, c.Memory = 1, 64<<20 }},
	} {
		t.Run(test.name, func(t *testing.T) {
			out := newLinux(t, "poweroff", test.change).run(t, control.ReasonPowerOff)
			if !strings.Contains(out, test.want) {
				t.Errorf("no %q on the console:\n%s", test.want, out)
			}
		})
	}
}

// withoutPVH copies a kernel and spoils the note of its PVH entry.
func withoutPVH(t *testing.T, kernel *os.File) *os.File {
	t.Helper()
	b, err := os.ReadFile(kernel.Name())
	if err != nil {
		t.Fatal(err)
	}
	note := []byte("\x12\x00\x00\x00Xen\x00") // XEN_ELFNOTE_PHYS32_ENTRY
	i := bytes.Index(b, note)
	if i < 0 {
		t.Fatal("kernel has no PVH entry")
	}
	copy(b[i+len(note)-4:], "nix")
	path := t.TempDir() + "/vmlinux"
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestLinuxEnds(t *testing.T) {
	for _, test := range []struct{ name, guest, reason, cmdline string }{
		{"reboot", "reboot", control.ReasonReset, ""},
		{"panic", "panic", control.ReasonPanic, ""},
		{"triple fault", "fault", control.ReasonTripleFault, " reboot=t,force"},
	} {
		t.Run(test.name, func(t *testing.T) {
			newLinux(t, test.guest, func(c *Config) { c.Cmdline += test.cmdline }).run(t, test.reason)
		})
	}
}

func TestLinuxStops(t *testing.T) {
	l := newLinux(t, "idle", nil)
	go func() {
		for !strings.Contains(string(l.console.Bytes()), "guest is idle") {
			time.Sleep(10 * time.Millisecond)
		}
		l.vm.Stop()
	}()
	l.run(t, control.ReasonStopped)
}

func TestLinuxReadsEntropy(t *testing.T) {
	out := newLinux(t, "entropy", nil).run(t, control.ReasonPowerOff)
	for _, want := range []string{"random numbers come from virtio_rng", "read 64 bytes"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q on the console:\n%s", want, out)
		}
	}
}
