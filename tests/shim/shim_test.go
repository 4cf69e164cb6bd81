// Package shim runs containers through real containerd daemons that find
// containerd-shim-microvm-v1 in their PATH. MICROVM_BIN is the directory of the
// binaries, MICROVM_MACHINE the machine (kvm or software), MICROVM_CONTAINERD a
// list of directories, separated by colons, that each hold a containerd and its
// ctr, and one of them crictl.
package shim

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/tests/busybox"
)

const (
	// image is the name of the local image that containers run.
	image = "localhost/busybox:latest"
	// namespace is containerd's.
	namespace = "tests"
	runtime   = "io.containerd.microvm.v1"
)

var (
	binDir, machine string
	rootfs          string // a directory, not to be changed
	imageFile       string // image as an archive
	daemons         []*daemon
	crictl          string // the path
	serial          atomic.Int32
)

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == programName {
		fmt.Fprintln(os.Stderr, runProgram(os.Args[1]))
		os.Exit(1)
	}
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "shim:", err)
		os.Exit(1)
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	binDir, machine = os.Getenv("MICROVM_BIN"), os.Getenv("MICROVM_MACHINE")
	list := filepath.SplitList(os.Getenv("MICROVM_CONTAINERD"))
	if binDir == "" || machine == "" || len(list) == 0 {
		return 0, errors.New("MICROVM_BIN, MICROVM_MACHINE and MICROVM_CONTAINERD are not all set: run `make test`")
	}
	// Shims are orphans soon: this makes them the test's.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp("", "shim-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := makeImage(dir); err != nil {
		return 0, err
	}
	for i, bin := range list {
		if path := filepath.Join(bin, "crictl"); exists(path) {
			crictl = path
		}
		d, err := newDaemon(bin, filepath.Join(dir, fmt.Sprintf("d%d", i)))
		if err != nil {
			return 0, err
		}
		defer d.Stop()
		daemons = append(daemons, d)
	}
	return m.Run(), nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// makeImage makes an image of two layers. The upper one adds a file, replaces
// one and removes one.
func makeImage(dir string) error {
	rootfs = filepath.Join(dir, "rootfs")
	if err := busybox.Rootfs(rootfs); err != nil {
		return err
	}
	upper := filepath.Join(dir, "upper")
	for name, content := range map[string]string{
		rootfs + "/etc/replaced": "lower\n", rootfs + "/etc/removed": "lower\n",
		upper + "/etc/added": "upper\n", upper + "/etc/replaced": "upper\n", upper + "/etc/.wh.removed": "",
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			return err
		}
	}
	imageFile = filepath.Join(dir, "image.tar")
	return busybox.Image(imageFile, image, rootfs, upper)
}

// each runs a test against every daemon.
func each(t *testing.T, test func(t *testing.T, s *site)) {
	for _, d := range daemons {
		t.Run(d.name, func(t *testing.T) { test(t, newSite(t, d)) })
	}
}

// last runs a test against the last daemon only: one of what no daemon has a say
// in.
func last(t *testing.T, test func(t *testing.T, s *site)) {
	test(t, newSite(t, daemons[len(daemons)-1]))
}

// newID names a container.
func newID(t *testing.T) string {
	name, _, _ := strings.Cut(t.Name(), "/")
	return fmt.Sprintf("%s-%d", name, serial.Add(1))
}
