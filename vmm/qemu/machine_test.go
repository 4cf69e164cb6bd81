package qemu

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/microvm/microvm/vmm/control"
)

func TestGuestEnds(t *testing.T) {
	for _, c := range []struct {
		name, guest, cmdline, want string
	}{
		{"power-off", "poweroff", "", control.ReasonPowerOff},
		{"power-off with a code", "poweroff_42", "", control.ReasonPowerOff},
		{"reset", "reboot", "", control.ReasonReset},
		{"panic", "panic", "", control.ReasonPanic},
		{"triple fault", "reboot", " reboot=t", control.ReasonTripleFault},
	} {
		t.Run(c.name, func(t *testing.T) {
			run(t, c.guest, c.want, func(cfg *Config) { cfg.Cmdline += c.cmdline })
		})
	}
}

func TestProcessors(t *testing.T) {
	out := run(t, "poweroff", control.ReasonPowerOff, func(cfg *Config) { cfg.CPUs = 3 })
	if got := grep(out.Bytes(), "guest has "); len(got) != 1 || got[0] != "3 processors" {
		t.Fatalf("%q; console:\n%s", got, out.Bytes())
	}
}

// TestMemoryAboveTheHole has memory beyond 4 GiB of guest addresses.
func TestMemoryAboveTheHole(t *testing.T) {
	run(t, "poweroff", control.ReasonPowerOff, func(cfg *Config) { cfg.Memory = 5 << 30 })
}

func TestLeastMemory(t *testing.T) {
	run(t, "poweroff", control.ReasonPowerOff, func(cfg *Config) { cfg.Memory = MinMemory })
}

func TestQuietBootPrintsNothing(t *testing.T) {
	out := run(t, "poweroff", control.ReasonPowerOff, nil)
	if strings.Contains(string(out.Bytes()), "Linux version") {
		t.Errorf("console:\n%s", out.Bytes())
	}
	out = run(t, "poweroff", control.ReasonPowerOff, func(cfg *Config) { cfg.Debug = true })
	if !strings.Contains(string(out.Bytes()), "Linux version") {
		t.Errorf("console:\n%s", out.Bytes())
	}
}

func TestEntropy(t *testing.T) {
	out := run(t, "entropy", control.ReasonPowerOff, nil)
	if got := grep(out.Bytes(), "read "); len(got) != 1 {
		t.Fatalf("console:\n%s", out.Bytes())
	}
}

func TestClock(t *testing.T) {
	out := run(t, "clock", control.ReasonPowerOff, nil)
	if got := grep(out.Bytes(), "clock source "); len(got) != 1 || !strings.HasPrefix(got[0], "tsc") {
		t.Errorf("clock source %q", got)
	}
	got := grep(out.Bytes(), "time ")
	if len(got) != 1 {
		t.Fatalf("console:\n%s", out.Bytes())
	}
	guest, err := strconv.ParseInt(got[0], 10, 64)
	if off := time.Now().Unix() - guest; err != nil || off < -60 || off > 120 {
		t.Errorf("the guest's clock is %d s behind (%v)", off, err)
	}
}

// floodLines is what the pipe holds with room to spare, so that nothing may be
// lost however late the reader is.
const floodLines = 512

func TestOutputIsWhole(t *testing.T) {
	out := run(t, "flood", control.ReasonPowerOff, nil)
	line := strings.Repeat("0123456789abcdef", 64)
	if n := strings.Count(string(out.Bytes()), line); n != floodLines {
		t.Errorf("%d lines, want %d", n, floodLines)
	}
}

func TestStop(t *testing.T) {
	cfg, out := config(t, "idle")
	m := start(t, cfg)
	out.waitFor(t, "guest is idle")
	m.Stop()
	m.Stop()
	finish(t, m, out, control.ReasonStopped)
	m.Stop()
}

func TestStopAtOnce(t *testing.T) {
	cfg, out := config(t, "idle")
	m := start(t, cfg)
	m.Stop()
	finish(t, m, out, control.ReasonStopped)
}

func TestKilledFromOutside(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGSEGV, syscall.SIGTERM} {
		cfg, out := config(t, "idle")
		m := start(t, cfg)
		out.waitFor(t, "guest is idle")
		if err := syscall.Kill(m.PID(), sig); err != nil {
			t.Fatal(err)
		}
		if reason, err := m.Wait(); reason != control.ReasonError || !errors.Is(err, ErrExit) {
			t.Errorf("%v: %s, %v", sig, reason, err)
		}
	}
}

func TestNothingIsLeft(t *testing.T) {
	before := descriptors(t)
	for range 2 {
		cfg, out := config(t, "poweroff")
		m := start(t, cfg)
		finish(t, m, out, control.ReasonPowerOff)
		cfg.Kernel.Close()
		cfg.Initramfs.Close()
		if err := syscall.Kill(m.PID(), 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("QEMU is still there: %v", err)
		}
	}
	if after := descriptors(t); after > before+2 { // the poller's, at first use
		t.Errorf("%d descriptors, before %d", after, before)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	e, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(e)
}

func TestQEMUIsMissing(t *testing.T) {
	_, err := Start(Config{Path: "/nonexistent/qemu", CPUs: 1, Memory: MinMemory, Kernel: os.Stdin, Console: new(console)})
	if !errors.Is(err, ErrUnavailable) || !errors.Is(err, os.ErrNotExist) || !strings.Contains(fmt.Sprint(err), debianPackage) {
		t.Fatal(err)
	}
}

func TestQEMUFails(t *testing.T) {
	for _, c := range []struct {
		name, script string
		is           error
		want         string
	}{
		{"says why", "echo 'qemu: cannot set up guest memory' >&2; exit 1", ErrExit, "cannot set up guest memory"},
		{"without a word", "exit 1", ErrExit, "exit status 1"},
		{"too old", `echo "'vhost-user-fs-device' is not a valid device model name" >&2; exit 1`, ErrUnavailable, debianPackage},
		{"endless words", "yes words | head -c 100000 >&2; exit 7", ErrExit, "exit status 7"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			path := dir + "/qemu"
			if err := os.WriteFile(path, []byte("#!/bin/sh\n"+c.script+"\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil { // nobody runs it
				t.Fatal(err)
			}
			m := start(t, Config{Path: path, CPUs: 1, Memory: MinMemory, Kernel: os.Stdin, Console: new(console)})
			reason, err := m.Wait()
			if reason != control.ReasonError || !errors.Is(err, c.is) || !strings.Contains(fmt.Sprint(err), c.want) {
				t.Fatalf("%s, %v", reason, err)
			}
			if n := len(fmt.Sprint(err)); n > maxStderr+500 {
				t.Errorf("message of %d bytes", n)
			}
		})
	}
}

func TestKernelThatIsNone(t *testing.T) {
	kernel(t)
	path := t.TempDir() + "/kernel"
	if err := os.WriteFile(path, []byte("not a kernel"), 0o644); err != nil {
		t.Fatal(err)
	}
	m := start(t, Config{CPUs: 1, Memory: MinMemory, Kernel: open(t, path), Console: new(console)})
	if reason, err := m.Wait(); reason != control.ReasonError {
		t.Fatalf("%s, %v", reason, err)
	} else {
		t.Log(err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	good := Config{CPUs: 1, Memory: MinMemory, Kernel: os.Stdin, Console: new(console)}
	for name, change := range map[string]func(*Config){
		"no kernel":      func(c *Config) { c.Kernel = nil },
		"no console":     func(c *Config) { c.Console = nil },
		"no CPU":         func(c *Config) { c.CPUs = 0 },
		"too many CPUs":  func(c *Config) { c.CPUs = maxCPUs + 1 },
		"little memory":  func(c *Config) { c.Memory = MinMemory - 1 },
		"odd memory":     func(c *Config) { c.Memory++ },
		"NUL in cmdline": func(c *Config) { c.Cmdline = "a\x00b" },
	} {
		t.Run(name, func(t *testing.T) {
			c := good
			change(&c)
			if _, err := Start(c); !errors.Is(err, ErrConfig) {
				t.Fatal(err)
			}
		})
	}
}
