// Package chaos does harm at random moments of a container's life, to the
// processes around it or to what they need of the host, and checks afterwards
// that the container runs right or is gone with the right status, that it can be
// deleted, and that nothing is left.
//
// MICROVM_BIN is the directory of the binaries, MICROVM_MACHINE the machine,
// MICROVM_CONTAINERD a list of directories with containerd and ctr, of which the
// last one is used. MICROVM_ROUNDS says how often, MICROVM_SEED which rounds: each
// has a seed of its own, which it prints, so that MICROVM_ROUNDS=1 and that seed do
// the same harm again, at about the same moment.
package chaos

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
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
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
	os.Exit(code)
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
