// Package chaos does harm at random moments of a container's life, to the
// processes around it or to what they need of the host, and checks afterwards
// that the container runs right or is gone with the right status, that it can be
// deleted, and that nothing is left.
//
// MICROVM_BIN is the directory of the binaries, MICROVM_MACHINE the machine,
// MICROVM_CONTAINERD a list of directories with containerd and ctr, of which the
// last one is used. MICROVM_ROUNDS says how often, MICROVM_SEED which rounds: each
// has a seed of its own, which it prints, so that MICROVM_ROUNDS=1 and that seed do
// the same harm again, at about the same moment. MICROVM_ONLY chooses the rounds with
// these words, such as "delete, SIGKILL to containerd", and MICROVM_RUNTIME another
// runtime of containerd's, to compare.
//
// The agent is the guest's first process, which no signal from inside stops: its end
// is the crash of the guest, its standstill that of the machine. Of what can be left,
// memfds end with the processes that have them.
package chaos

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/tests/busybox"
)

var (
	binDir, machine string
	template        string // a busybox root file system, not to be changed
	rounds          = 6
	seed            = uint64(1)
)

func TestMain(m *testing.M) {
	start := run
	if os.Getenv(apart) == "" {
		start = inNamespaces
	}
	code, err := start(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
	os.Exit(code)
}

// apart is in the environment of the process that runs the tests.
const apart = "MICROVM_CHAOS_APART"

// inNamespaces runs the tests in a process with mounts, interfaces and sockets of its
// own, so that what others on the machine make meanwhile is not taken for a leftover.
func inNamespaces(*testing.M) (int, error) {
	goruntime.LockOSThread() // the death signal is of the thread's end
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), apart+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET, Pdeathsig: unix.SIGKILL}
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return 0, err
	}
	return cmd.ProcessState.ExitCode(), nil
}

func run(m *testing.M) (code int, err error) {
	binDir, machine = os.Getenv("MICROVM_BIN"), os.Getenv("MICROVM_MACHINE")
	if binDir == "" || machine == "" {
		return 0, errors.New("MICROVM_BIN and MICROVM_MACHINE are not set: run `make chaos`")
	}
	if text := os.Getenv("MICROVM_ROUNDS"); text != "" {
		if rounds, err = strconv.Atoi(text); err != nil {
			return 0, fmt.Errorf("MICROVM_ROUNDS: %w", err)
		}
	}
	if text := os.Getenv("MICROVM_SEED"); text != "" {
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			return 0, fmt.Errorf("MICROVM_SEED: %w", err)
		}
	}
	// Monitors and shims become the test's children, whose codes it can collect.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp("", "chaos-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	template = filepath.Join(dir, "rootfs")
	if err := busybox.Rootfs(template); err != nil {
		return 0, err
	}
	return m.Run(), nil
}

// each runs the rounds, every one with a generator of its own.
func each(t *testing.T, round func(t *testing.T, random *rand.Rand)) {
	for i := range uint64(rounds) {
		t.Run(fmt.Sprintf("seed-%d", seed+i), func(t *testing.T) {
			key := sha256.Sum256(fmt.Append(nil, seed+i)) // seeds that follow each other give alike numbers
			round(t, rand.New(rand.NewChaCha8(key)))
		})
	}
}
