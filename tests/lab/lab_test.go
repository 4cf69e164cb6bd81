package lab

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/microvm/microvm/tests/lab/wire"
	"golang.org/x/sys/unix"
)

// Every test here boots a machine, whether or not this host has KVM.

// bootTimeout bounds a whole run on a busy host.
const bootTimeout = 3 * time.Minute

// initDir holds the program that buildInit has built.
var initDir string

var buildInit = sync.OnceValues(func() (path string, err error) {
	if initDir, err = os.MkdirTemp("", "lab-test-"); err != nil {
		return "", err
	}
	path = filepath.Join(initDir, "lab")
	build := exec.Command("go", "build", "-o", path, "./cmd/lab")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build lab: %w: %s", err, output)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if initDir != "" {
		os.RemoveAll(initDir)
	}
	os.Exit(code)
}

// machineOptions prepares a run, or skips where there cannot be one.
func machineOptions(t *testing.T, args ...string) Options {
	t.Helper()
	if os.Getenv("LAB") != "" {
		t.Skip("inside the lab already: a machine in a machine in a machine takes minutes")
	}
	if err := prepared(); err != nil {
		t.Skipf("this host is not prepared: %v", err)
	}
	init, err := buildInit()
	if err != nil {
		t.Fatal(err)
	}
	return Options{Args: args, Init: init}
}

func prepared() error {
	if _, err := os.Stat(qemuPath); err != nil {
		return err
	}
	if os.Getuid() != 0 {
		return errors.New("virtiofsd needs root")
	}
	_, err := findVirtiofsd()
	_, kernelErr := FindKernel()
	return errors.Join(err, kernelErr)
}

// run runs the command and returns its exit code and output.
func run(t *testing.T, options Options) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), bootTimeout)
	defer cancel()
	var out, err bytes.Buffer
	options.Stdout, options.Stderr = &out, &err
	code, failure := Run(ctx, options)
	if failure != nil {
		t.Fatal(failure)
	}
	return code, out.String(), err.String()
}

func TestMachineHasHardwareVirtualisation(t *testing.T) {
	options := machineOptions(t)
	options.Args = []string{"sh", "-c", `grep -o -m1 svm /proc/cpuinfo && test -c /dev/kvm && "$0" check`, options.Init}
	code, stdout, stderr := run(t, options)
	if code != 0 || !strings.HasPrefix(stdout, "svm\nthis host") {
		t.Errorf("exit code %d, output %q %q; want svm and a KVM that lab would use", code, stdout, stderr)
	}
}

func TestMachineHoldsKVM(t *testing.T) {
	options := machineOptions(t)
	options.Args = []string{"sh", "-c", `readlink /proc/1/fd/* | grep -c kvm-v`}
	if code, stdout, stderr := run(t, options); code != 0 || stdout != "2\n" {
		t.Errorf("exit code %d, output %q %q; want a VM and a vCPU that init keeps open", code, stdout, stderr)
	}
}

func TestStreamsAreExactAndExitCodeComesBack(t *testing.T) {
	input := make([]byte, 3<<20)
	rand.NewChaCha8([32]byte{}).Read(input)
	options := machineOptions(t, "sh", "-c", "cat; echo 'only here' >&2; exit 42")
	options.Stdin = bytes.NewReader(input)
	code, stdout, stderr := run(t, options)
	if code != 42 {
		t.Errorf("exit code %d, want 42", code)
	}
	if sha256.Sum256([]byte(stdout)) != sha256.Sum256(input) {
		t.Errorf("standard output has %d bytes and is not the %d of the input", len(stdout), len(input))
	}
	if stderr != "only here\n" {
		t.Errorf("standard error is %q", stderr)
	}
}

func TestResultsComeOutAndTheHostIsLeftAlone(t *testing.T) {
	dir, witness := t.TempDir(), filepath.Join(t.TempDir(), "witness")
	if err := os.WriteFile(witness, []byte("host"), 0o644); err != nil {
		t.Fatal(err)
	}
	options := machineOptions(t, "sh", "-ec", `
		pwd; ls "$SCRATCH" | wc -l
		echo result >"$LAB_OUT/result"
		echo guest >"$WITNESS"; cat "$WITNESS"
		setfattr() { python3 -c 'import os; os.setxattr("'$TMPDIR'", "user.lab", b"x")'; }; setfattr`)
	options.OutputDir, options.Dir = filepath.Join(dir, "out"), dir
	options.Scratch = []string{"/etc"}
	options.Env = append(os.Environ(), "WITNESS="+witness, "SCRATCH=/etc")
	code, stdout, stderr := run(t, options)
	if want := dir + "\n0\nguest\n"; code != 0 || stdout != want {
		t.Errorf("exit code %d, output %q %q, want %q", code, stdout, stderr, want)
	}
	if result, err := os.ReadFile(filepath.Join(dir, "out/result")); string(result) != "result\n" {
		t.Errorf("result file has %q: %v", result, err)
	}
	if content, _ := os.ReadFile(witness); string(content) != "host" {
		t.Errorf("the guest wrote %q to a file of the host", content)
	}
}

func TestNetworkReachesBothWaysAndIsGone(t *testing.T) {
	options := machineOptions(t, "sh", "-c", "busybox ping -c 1 -w 30 192.0.2.9 >&2 && busybox nc -l -p 4711")
	options.Network = netip.MustParsePrefix("192.0.2.8/30")
	options.Stdin = strings.NewReader("from the machine")
	answer := make(chan string, 1)
	go func() {
		for deadline := time.Now().Add(bootTimeout); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
			if c, err := net.DialTimeout("tcp", "192.0.2.10:4711", 5*time.Second); err == nil {
				said, _ := io.ReadAll(c)
				c.Close()
				answer <- string(said)
				return
			}
		}
		answer <- "no answer"
	}()
	if code, _, stderr := run(t, options); code != 0 {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	if got := <-answer; got != "from the machine" {
		t.Errorf("the host got %q", got)
	}
	if addresses, err := net.InterfaceAddrs(); err != nil || strings.Contains(fmt.Sprint(addresses), "192.0.2.9/") {
		t.Errorf("the host has %v afterwards, error %v", addresses, err)
	}
}

func TestCommandGetsTerminalResizesAndSignals(t *testing.T) {
	signals := make(chan os.Signal, 1)
	options := machineOptions(t, "sh", "-c", `
		trap "stty size; exit 3" TERM
		test -t 0 && stty size
		while :; do sleep 0.1; done`)
	options.Terminal = &wire.Size{Rows: 11, Columns: 22}
	sizes := make(chan wire.Size)
	options.Signals, options.Sizes = signals, sizes
	ctx, cancel := context.WithTimeout(context.Background(), bootTimeout)
	defer cancel()
	var out bytes.Buffer
	options.Stdout = writerFunc(func(p []byte) (int, error) {
		out.Write(p)
		if out.String() == "11 22\r\n" { // it is up: what follows cannot be too early
			go func() {
				sizes <- wire.Size{Rows: 33, Columns: 44}
				signals <- unix.SIGTERM
			}()
		}
		return len(p), nil
	})
	code, err := Run(ctx, options)
	// The shell says so when the signal, which goes to its group, meets its sleep.
	got := strings.ReplaceAll(out.String(), "Terminated\r\n", "")
	if want := "11 22\r\n33 44\r\n"; err != nil || code != 3 || got != want {
		t.Errorf("exit code %d, error %v, output %q, want 3 and %q", code, err, got, want)
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestNothingIsLeftWhenTheMachineIsCancelled(t *testing.T) {
	options := machineOptions(t, "sleep", "1000")
	ctx, cancel := context.WithCancel(context.Background())
	options.Console = writerFunc(func(p []byte) (int, error) {
		cancel() // as soon as the kernel prints anything
		return len(p), nil
	})
	options.Args = []string{"sh", "-c", "echo >/dev/console; sleep 1000"}
	before := openFiles(t)
	if _, err := Run(ctx, options); !errors.Is(err, ErrMachine) || !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want ErrMachine and context.Canceled", err)
	}
	if children := childProcesses(t); children != "" {
		t.Errorf("processes left: %s", children)
	}
	if after := openFiles(t); after > before {
		t.Errorf("%d open files, before there were %d", after, before)
	}
}

func TestMachineThatDiesReportsItsConsole(t *testing.T) {
	options := machineOptions(t, "sh", "-c", "echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger; sleep 100")
	_, err := Run(context.Background(), options)
	if !errors.Is(err, ErrMachine) || !strings.Contains(err.Error(), "Kernel panic - not syncing") {
		t.Errorf("error %v, want ErrMachine with the panic", err)
	}
}

func childProcesses(t *testing.T) string {
	t.Helper()
	lists, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil || len(lists) == 0 {
		t.Fatalf("list children: %v", err)
	}
	var children string
	for _, list := range lists {
		content, _ := os.ReadFile(list)
		children += string(content)
	}
	return children
}

func openFiles(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}
