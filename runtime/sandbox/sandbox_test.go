package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/vmm/control"
)

func TestLifeOfAMachine(t *testing.T) {
	vm, _ := fake(t, "good")
	if err := vm.Boot(t.Context()); err != nil {
		t.Fatal(err)
	}
	console, err := vm.Console(t.Context())
	if err != nil || console != "booting...\n" {
		t.Errorf("console %q, %v", console, err)
	}
	if err := vm.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if e := vm.End(); e.Reason != control.ReasonPowerOff || e.Err != nil {
		t.Errorf("%+v", e)
	}
	var names []string
	for _, s := range vm.config.Timeline.Stages() {
		names = append(names, s.Name)
	}
	// The kernel's stage is placed a second before Hello, by the guest's
	// clock: earlier than this test's start.
	if got := strings.Join(names, " "); got != "kernel vcpus agent" {
		t.Errorf("stages %s", got)
	}
}

func TestDial(t *testing.T) {
	vm, _ := fake(t, "good")
	c, err := Dial(t.Context(), vm.Socket(), 7)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("echo")); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); err != nil || string(got) != "echo" {
		t.Errorf("%q %v", got, err)
	}
	if _, err := Dial(t.Context(), vm.Socket(), 8); err == nil || !strings.Contains(err.Error(), "no room") {
		t.Error(err)
	}
	if _, err := Dial(t.Context(), vm.Socket(), 1); !errors.Is(err, ErrUnreachable) {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Dial(ctx, vm.Socket(), 9); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	vm.Kill()
	if _, err := Dial(t.Context(), vm.Socket(), 7); !errors.Is(err, ErrUnreachable) {
		t.Error(err)
	}
	if _, err := Dial(t.Context(), "/no/such/socket", 7); !errors.Is(err, ErrUnreachable) {
		t.Error(err)
	}
}

func TestLongSocketPaths(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 120))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := Listen(filepath.Join(dir, "vsock.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	// Nobody accepts, but the connection itself is made.
	if _, err := Dial(ctx, filepath.Join(dir, "vsock.sock"), 7); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestFailedBootsTellTheCause(t *testing.T) {
	for mode, want := range map[string][]string{
		"panic":    {"kernel panicked", "Kernel panic - not syncing: test"},
		"error":    {"load kernel: not an ELF file"},
		"crash":    {"killed or crashed", "panic: the VM process has a bug"},
		"vanish":   {"killed or crashed", "exit status 7"},
		"filtered": {"killed or crashed", "the jail's filter stopped", "system call"},
		"hangup":   {`last stage reached: "vcpus"`, "booting..."},
	} {
		t.Run(mode, func(t *testing.T) {
			vm, _ := fake(t, mode)
			err := vm.Boot(t.Context())
			if !errors.Is(err, ErrMachine) {
				t.Fatalf("%v", err)
			}
			for _, w := range want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("no %q in %v", w, err)
				}
			}
			select {
			case <-vm.Done():
			default:
				t.Error("the machine outlives its failed boot")
			}
		})
	}
}

func TestBootEndsWithItsCaller(t *testing.T) {
	vm, _ := fake(t, "silent")
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	go func() {
		time.Sleep(50 * time.Millisecond)
		cancel(why)
	}()
	if err := vm.Boot(ctx); !errors.Is(err, why) {
		t.Error(err)
	}
	vm.End()
}

func TestProcessLog(t *testing.T) {
	vm, logged := fake(t, "chatty")
	if err := vm.Boot(t.Context()); err != nil {
		t.Fatal(err)
	}
	vm.Kill()
	if text := logged.String(); !strings.Contains(text, "level=error msg=\"bad thing\" component=vmm") || strings.Contains(text, "just so") {
		t.Error(text)
	}
}

// TestLogFlood has a VM process that has fallen log without end.
func TestLogFlood(t *testing.T) {
	var out bytes.Buffer
	log := logrus.New()
	log.SetOutput(&out)
	p := processLog{log: logrus.NewEntry(log)}
	line := `{"level":"error","msg":"\u001b[2J` + strings.Repeat("x", 3*mostText) + `","device":"\u0007"}`
	start := time.Now()
	p.read(strings.NewReader(strings.Repeat(line+"\n", 20*perSecond)))
	seconds := int(time.Since(start)/time.Second) + 2 // the first and the last are not whole
	if n := strings.Count(out.String(), "msg="); n < perSecond || n > seconds*(perSecond+1) || n < 20*perSecond && !strings.Contains(out.String(), "logs too much") {
		t.Errorf("%d records in %d seconds", n, seconds)
	}
	if out.Len() > 20*perSecond*2*mostText || strings.ContainsAny(out.String(), "\x1b\a") || strings.Contains(out.String(), `\x1b`) {
		t.Errorf("%d bytes, %.200q", out.Len(), out.String())
	}
}

// TestLogOfStrangeFields has it log what no logger of its own would.
func TestLogOfStrangeFields(t *testing.T) {
	long := strings.Repeat("x", 20*mostText)
	many := ""
	for i := range 1000 {
		many += fmt.Sprintf(`,"key%d":1`, i)
	}
	for what, line := range map[string]string{
		"a key with controls":  `{"level":"error","msg":"m","\u001b[2J":1}`,
		"a long key":           `{"level":"error","msg":"m","` + long + `":1}`,
		"a list with controls": `{"level":"error","msg":"m","list":["\u001b[2J\u0007"]}`,
		"a long list":          `{"level":"error","msg":"m","list":["` + long + `"]}`,
		"many fields":          `{"level":"error","msg":"m"` + many + `}`,
	} {
		t.Run(what, func(t *testing.T) {
			var out bytes.Buffer
			log := logrus.New()
			log.SetOutput(&out)
			p := processLog{log: logrus.NewEntry(log)}
			p.read(strings.NewReader(line + "\n"))
			if text := out.String(); !strings.Contains(text, "msg=m") || out.Len() > 2*mostText || strings.Count(text, "=") > 2*mostFields || strings.ContainsAny(text, "\x1b\a") || strings.Contains(text, `\x1b`) {
				t.Errorf("%d bytes, %.300q", out.Len(), text)
			}
		})
	}
}

// TestFallenVMProcess has it and its guest say more than they should of how they start,
// and what a terminal acts on.
func TestFallenVMProcess(t *testing.T) {
	vm, _ := fake(t, "fallen")
	if err := vm.Boot(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err := vm.Console(t.Context())
	if err == nil || strings.ContainsAny(err.Error(), "\x1b\a") || len(err.Error()) > 2*mostError {
		t.Errorf("%.100q", err)
	}
	vm.Kill()
	stages := vm.config.Timeline.Stages()
	if len(stages) > 2*mostStages {
		t.Errorf("%d stages of a start", len(stages))
	}
	for _, s := range stages {
		if len(s.Name) > 2*mostStageName || strings.ContainsAny(s.Name, "\x1b\a") {
			t.Errorf("a stage is called %.100q", s.Name)
		}
	}
	end := End{Reason: control.ReasonError, Err: err}
	if text := end.Error(); strings.ContainsAny(text, "\x1b\a") {
		t.Errorf("%.100q", text)
	}
}

func TestLaunchFailures(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	good := Config{Machine: control.MachineSoftware, Kernel: self, Initramfs: self, VMM: self, Log: logrus.NewEntry(logrus.New())}
	before := descriptors(t)
	for want, change := range map[string]func(*Config){
		"open guest kernel: open /no/such": func(c *Config) { c.Kernel = "/no/such" },
		"open guest initramfs: ":           func(c *Config) { c.Initramfs = "/no/such" },
		"open export x: open /no/such":     func(c *Config) { c.Exports = []Export{{Name: "x", Path: "/no/such"}} },
		"start VM process: ":               func(c *Config) { c.VMM = "/no/such" },
		"listen on ":                       func(c *Config) { c.Socket = "/no/such/directory/sock" },
	} {
		c := good
		c.Socket = filepath.Join(t.TempDir(), "sock")
		change(&c)
		if _, err := Launch(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestMachineEndsWithItsOwner(t *testing.T) {
	vm, _ := fake(t, "good")
	if err := vm.Boot(t.Context()); err != nil {
		t.Fatal(err)
	}
	// What the kernel does when the owner is killed.
	vm.control.Close()
	if err := unix.Kill(vm.PID(), 0); err != nil && !errors.Is(err, unix.ESRCH) {
		t.Fatal(err)
	}
	vm.End()
}

func TestWordsOfAnEnd(t *testing.T) {
	e := End{Reason: control.ReasonReset, Err: io.EOF, Console: strings.Repeat("old\n", 50) + "last\n"}
	if !errors.Is(e, io.EOF) || !errors.Is(e, ErrMachine) || strings.Count(e.Error(), "old") != consoleLines-1 || !strings.HasSuffix(e.Error(), "last") {
		t.Error(e)
	}
	e.Console = "\x1b]0;evil\a\x1b[2Jcleared\u202e\xff" + strings.Repeat("x", 10<<10)
	if text := e.Error(); strings.ContainsAny(text, "\x1b\a\u202e") || !utf8.ValidString(text) || !strings.Contains(text, "cleared?") || len(text) > 1<<10 {
		t.Errorf("%q", text)
	}
	if text := (End{Reason: control.ReasonPowerOff}).Error(); strings.Contains(text, "words") {
		t.Error(text)
	}
}

// TestTooFewDescriptorsForALaunch runs out of them at each step of it.
func TestTooFewDescriptorsForALaunch(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	dir := t.TempDir()
	free, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	first := uint64(free.Fd())
	free.Close()
	for more := range uint64(14) {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: first + more, Max: limit.Max}); err != nil {
			t.Fatal(err)
		}
		vm, err := Launch(Config{
			ID: "test", Machine: control.MachineSoftware, CPUs: 1, Memory: 1 << 20, Kernel: self, Initramfs: self, VMM: "/no/vmm",
			Exports: []Export{{Name: "rootfs", Path: dir}}, Socket: filepath.Join(dir, "vsock.sock"),
			Log: logrus.NewEntry(logrus.New()), Timeline: NewTimeline(Now()),
		})
		if err == nil {
			vm.Close()
			t.Fatalf("%d descriptors are enough", more)
		}
		os.Remove(filepath.Join(dir, "vsock.sock"))
	}
}
