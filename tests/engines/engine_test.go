// Package engines runs podman and docker, as Debian ships them, with
// microvm-runtime in the place of runc. MICROVM_BIN is the directory of the
// binaries, MICROVM_MACHINE the machine (kvm or software).
package engines

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/microvm/microvm/tests/busybox"
)

// patience bounds every command.
const patience = 3 * time.Minute

// image is the name of the local image that containers run.
const image = "localhost/busybox"

var (
	binDir  = os.Getenv("MICROVM_BIN")
	machine = os.Getenv("MICROVM_MACHINE")
	rootfs  string // a tar file
)

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "engines:", err)
		os.Exit(1)
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	if binDir == "" || machine == "" {
		return 0, errors.New("MICROVM_BIN and MICROVM_MACHINE are not set: run `make test`")
	}
	dir, err := os.MkdirTemp("", "engines-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	if err := busybox.Rootfs(filepath.Join(dir, "rootfs")); err != nil {
		return 0, err
	}
	rootfs = filepath.Join(dir, "rootfs.tar")
	if out, err := exec.Command("tar", "-C", filepath.Join(dir, "rootfs"), "-cf", rootfs, ".").CombinedOutput(); err != nil {
		return 0, fmt.Errorf("pack root file system: %w: %s", err, out)
	}
	return m.Run(), nil
}

func runtimePath() string { return filepath.Join(binDir, "microvm-runtime") }

// engine is podman or docker with storage of its own.
type engine struct {
	name string
	args []string // the command with its global flags
}

// command is one call of an engine.
type command struct {
	t     *testing.T
	args  []string
	stdin io.Reader
}

func (e *engine) command(t *testing.T, args ...string) *command {
	return &command{t: t, args: append(append([]string{}, e.args...), args...)}
}

// container is a call of `run` without a network.
func (e *engine) container(t *testing.T, args ...string) *command {
	return e.command(t, append([]string{"run", "--network", "none"}, args...)...)
}

func (c *command) input(r io.Reader) *command {
	c.stdin = r
	return c
}

// outcome is how a command ended.
type outcome struct {
	stdout, stderr string
	code           int
}

func (o outcome) String() string {
	return fmt.Sprintf("exit code %d\nstdout: %s\nstderr: %s", o.code, o.stdout, o.stderr)
}

func (c *command) run() outcome {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.args[0], c.args[1:]...)
	cmd.Stdin = c.stdin
	cmd.WaitDelay = 20 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if ctx.Err() != nil {
		c.t.Errorf("%v: hangs", c.args)
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		c.t.Fatalf("%v: %v", c.args, err)
	}
	return outcome{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// output is what the command prints; the test ends unless it succeeds.
func (c *command) output() string {
	c.t.Helper()
	o := c.run()
	if o.code != 0 {
		c.t.Fatalf("%v: %v", c.args, o)
	}
	return o.stdout
}

// wants checks the exit code and that stdout has these lines.
func (c *command) wants(code int, lines ...string) {
	c.t.Helper()
	o := c.run()
	if want := strings.Join(append(lines, ""), "\n"); o.code != code || o.stdout != want {
		c.t.Errorf("%v: %v\nwant exit code %d and\n%s", c.args, o, code, want)
	}
}

// eventually polls until ok, and ends the test when that takes too long.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("waited %v in vain: %s", patience, what)
}
