// Package engines runs podman and docker, as Debian ships them, with
// microvm-runtime in the place of runc. MICROVM_BIN is the directory of the
// binaries, MICROVM_MACHINE the machine (kvm or software).
package engines

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/microvm/microvm/tests/busybox"
	"github.com/microvm/microvm/tests/command"
)

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

// serve is a script that answers at port 80 with a line.
const serve = "echo served > /tmp/index.html; exec httpd -f -p 80 -h /tmp"

func (e *engine) command(t *testing.T, args ...string) *command.Command {
	return command.New(t, append(append([]string{}, e.args...), args...)...)
}

// container is a call of `run` without a network.
func (e *engine) container(t *testing.T, args ...string) *command.Command {
	return e.command(t, append([]string{"run", "--network", "none"}, args...)...)
}
