// Package e2e drives the built binaries from the outside, as a user would, on
// the machine that MICROVM_MACHINE names (kvm or software). MICROVM_BIN is the
// directory of the binaries.
package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/tests/busybox"
	"github.com/microvm/microvm/tests/command"
	"github.com/microvm/microvm/tests/inventory"
	"github.com/microvm/microvm/tests/lab/labtest"
)

var (
	binDir   string // the binaries under test
	machine  string // "kvm" or "software"
	template string // a busybox root file system, not to be changed
	serial   atomic.Int32
)

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == programName {
		os.Exit(runProgram(os.Args[1:]))
	}
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	binDir, machine = os.Getenv("MICROVM_BIN"), os.Getenv("MICROVM_MACHINE")
	if binDir == "" || machine == "" {
		return 0, errors.New("MICROVM_BIN and MICROVM_MACHINE are not set: run `make test`")
	}
	// Detached monitors become children of the test, whose exit codes it can
	// then collect, as conmon does.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp("", "e2e-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	template = filepath.Join(dir, "rootfs")
	if err := busybox.Rootfs(template); err != nil {
		return 0, err
	}
	return m.Run(), nil
}

// site is a state directory and what ran in it; nothing may be left there when
// the test ends.
type site struct {
	t    *testing.T
	root string
	dir  string
}

// newSite prepares a place for one test and checks at its end that nothing was
// left behind.
func newSite(t *testing.T) *site {
	t.Helper()
	dir := t.TempDir()
	s := &site{t: t, dir: dir, root: filepath.Join(dir, "state")}
	before := inventory.Take(t, dir)
	t.Cleanup(func() {
		s.deleteAll()
		inventory.Compare(t, before)
		if left, _ := os.ReadDir(s.root); len(left) != 0 {
			t.Errorf("left in %s: %v", s.root, left)
		}
	})
	return s
}

func (s *site) deleteAll() {
	entries, _ := os.ReadDir(s.root)
	for _, e := range entries {
		if s.t.Failed() {
			s.t.Logf("state of %s: %s", e.Name(), s.command("state", e.Name()).Run())
		}
		s.command("delete", "--force", e.Name()).Run()
	}
}

// name returns a container id that is used once on this host.
func (s *site) name() string { return fmt.Sprintf("c%d-%d", os.Getpid(), serial.Add(1)) }

// bundle is an OCI bundle with a busybox root file system of its own.
type bundle struct {
	dir  string
	spec *specs.Spec
}

func (b *bundle) rootfs(path string) string { return filepath.Join(b.dir, "rootfs", path) }

// bundle makes a bundle that runs args, changed by the functions.
func (s *site) bundle(args []string, change ...func(*specs.Spec)) *bundle {
	s.t.Helper()
	dir, err := os.MkdirTemp(s.dir, "bundle-")
	if err != nil {
		s.t.Fatal(err)
	}
	if out, err := exec.Command("cp", "-a", template, filepath.Join(dir, "rootfs")).CombinedOutput(); err != nil {
		s.t.Fatalf("copy root file system: %v: %s", err, out)
	}
	b := &bundle{dir: dir, spec: s.defaultSpec(dir)}
	b.spec.Process.Args = args
	b.spec.Process.Terminal = false
	b.spec.Root.Readonly = false
	for _, c := range change {
		c(b.spec)
	}
	b.write(s.t)
	return b
}

func (s *site) defaultSpec(dir string) *specs.Spec {
	s.t.Helper()
	s.command("spec", "--bundle", dir).Output()
	data, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		s.t.Fatal(err)
	}
	var spec specs.Spec
	if err := json.Unmarshal(data, &spec); err != nil {
		s.t.Fatal(err)
	}
	return &spec
}

func (b *bundle) write(t *testing.T) {
	t.Helper()
	data, err := json.Marshal(b.spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(b.dir, "config.json"), data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// sh is the usual command of a container in these tests.
func sh(script string) []string { return []string{"/bin/sh", "-c", script} }

// command is a call of microvm-runtime. args may begin with more global flags.
func (s *site) command(args ...string) *command.Command {
	return s.unspecified(append([]string{"--machine", machine}, args...)...)
}

// unspecified is a call that leaves the kind of machine to the configuration.
func (s *site) unspecified(args ...string) *command.Command {
	return command.New(s.t, append([]string{filepath.Join(binDir, "microvm-runtime"), "--root", s.root}, args...)...)
}

// runBundle runs b in the foreground.
func (s *site) runBundle(b *bundle) command.Outcome {
	s.t.Helper()
	return s.command("run", "--bundle", b.dir, s.name()).Run()
}

// output runs b and returns its output; the test fails on an exit code.
func (s *site) output(b *bundle) string {
	s.t.Helper()
	o := s.runBundle(b)
	if o.Code != 0 {
		s.t.Fatalf("run: %v", o)
	}
	return o.Stdout
}

// detached runs b in the background with its output in a file and returns the
// id and the pid of its pid file.
func (s *site) detached(b *bundle) (id string, pid int, stdout string) {
	s.t.Helper()
	id = s.name()
	stdout = filepath.Join(b.dir, "stdout")
	pid = s.launch(stdout, "run", "--detach", "--bundle", b.dir, "--pid-file", filepath.Join(b.dir, "pid"), id)
	return id, pid, stdout
}

// launch runs a command whose container outlives it; stdout gets both output
// streams of the container. It returns the pid in the command's --pid-file.
func (s *site) launch(stdout string, args ...string) int {
	s.t.Helper()
	s.launchWith(s.command(args...), stdout)
	for i, a := range args {
		if a == "--pid-file" {
			return readPid(s.t, args[i+1])
		}
	}
	return 0
}

// launchWith runs a command with its output in a file.
func (s *site) launchWith(c *command.Command, output string) {
	s.t.Helper()
	f, err := os.Create(output)
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	ctx, cancel := context.WithTimeout(context.Background(), command.Patience)
	defer cancel()
	cmd := c.Exec(ctx)
	cmd.Stdout, cmd.Stderr = f, f
	defer labtest.Tell(s.t, time.Now())
	if err := cmd.Run(); err != nil {
		out, _ := os.ReadFile(output)
		s.t.Fatalf("%v: %v: %s", cmd.Args, err, out)
	}
}

func readPid(t *testing.T, path string) int {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscanf(string(data), "%d", &pid); err != nil {
		t.Fatalf("pid file holds %q: %v", data, err)
	}
	return pid
}

// waitPid collects the exit code of a detached container's pid.
func waitPid(t *testing.T, pid int) int {
	t.Helper()
	var code int
	command.Eventually(t, fmt.Sprintf("pid %d ends", pid), func() bool {
		var ws unix.WaitStatus
		got, err := unix.Wait4(pid, &ws, unix.WNOHANG, nil)
		if err != nil {
			t.Fatalf("wait for pid %d: %v", pid, err)
		}
		if got != pid {
			return false
		}
		code = ws.ExitStatus()
		if ws.Signaled() {
			code = 128 + int(ws.Signal())
		}
		return true
	})
	return code
}

// state returns what `state` prints.
func (s *site) state(id string) specs.State {
	s.t.Helper()
	var st specs.State
	if err := json.Unmarshal([]byte(s.command("state", id).Output()), &st); err != nil {
		s.t.Fatal(err)
	}
	return st
}

func (s *site) waitStatus(id string, want specs.ContainerState) {
	s.t.Helper()
	command.Eventually(s.t, id+" is "+string(want), func() bool { return s.state(id).Status == want })
}
