// Package oci holds microvm-runtime to what runc does in the validation
// programs of github.com/opencontainers/runtime-tools, see programs/go.mod.
package oci

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// patience bounds a program: some start sixteen machines.
const patience = 3 * time.Minute

// suite is what build-programs made, and the command that the programs drive.
type suite struct {
	dir     string
	runtime []string
}

// names of the programs.
func (s *suite) names() ([]string, error) {
	entries, err := os.ReadDir(s.program(""))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.Name() != inside {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func (s *suite) program(name string) string { return filepath.Join(s.dir, "bin", name) }

// The programs look for these in their working directory: what they unpack as
// a bundle's root file system, and the program that most of them run inside.
const (
	rootfs = "rootfs-amd64.tar.gz"
	inside = "runtimetest"
)

// site is the working directory of one program. Its bundles and the state of
// its containers are in there, too.
type site struct {
	*suite
	dir string
	// command is a script: the programs can't give their runtime options.
	command string
}

// newSite fills the empty directory dir.
func (s *suite) newSite(dir string) (*site, error) {
	p := &site{suite: s, dir: dir, command: filepath.Join(dir, "runtime")}
	for from, to := range map[string]string{filepath.Join(s.dir, rootfs): rootfs, s.program(inside): inside} {
		if err := copyFile(from, filepath.Join(dir, to)); err != nil {
			return nil, err
		}
	}
	var script strings.Builder
	script.WriteString("#!/bin/sh\nexec")
	for _, word := range append(s.runtime, "--root", filepath.Join(dir, "state")) {
		fmt.Fprintf(&script, " '%s'", word)
	}
	script.WriteString(" \"$@\"\n")
	for _, d := range []string{"tmp", "state"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o777); err != nil {
			return nil, err
		}
	}
	return p, os.WriteFile(p.command, []byte(script.String()), 0o755)
}

// copyFile copies the file itself: the programs would copy a link as a link.
func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o755)
}

// run executes a program to its end. Its error says what the program found.
func (p *site) run(name string) (output string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.program(name))
	cmd.Dir, cmd.Env = p.dir, append(os.Environ(), "RUNTIME="+p.command, "TMPDIR="+filepath.Join(p.dir, "tmp"))
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	return string(out), verdict(string(out), err)
}

// clear deletes the containers that a program has left: one that gives up
// early deletes none, and the next one would find them in their cgroup.
func (p *site) clear() error {
	ids, err := exec.Command(p.command, "list", "--quiet").Output()
	if err != nil {
		return fmt.Errorf("list containers: %w", err)
	}
	for _, id := range strings.Fields(string(ids)) {
		if out, err := exec.Command(p.command, "delete", "--force", id).CombinedOutput(); err != nil {
			return fmt.Errorf("delete container %s: %w: %s", id, err, out)
		}
	}
	return nil
}

// unmountBelow takes away what a container that shared the host's mount
// namespace has left mounted below dir.
func unmountBelow(dir string) error {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	var points []string
	for line := range strings.Lines(string(table)) {
		if point := strings.Fields(line)[4]; strings.HasPrefix(point, dir+"/") {
			points = append(points, point)
		}
	}
	for _, p := range slices.Backward(points) {
		if err := unix.Unmount(p, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount %s: %w", p, err)
		}
	}
	return nil
}

// findings are a program's: what it asserts in vain.
type findings []string

func (f findings) Error() string { return strings.Join(f, "; ") }

// failedAssertion is a line of the Test Anything Protocol.
var failedAssertion = regexp.MustCompile(`^not ok(?: \d+)?(?: -)? ?(.*)`)

// verdict judges a program by its exit code and what it wrote, in the Test
// Anything Protocol. The programs that check hooks make no assertion: they
// write an error into a diagnostic, or nothing when all is well.
func verdict(output string, exit error) error {
	if exit != nil {
		return fmt.Errorf("the program ended early: %w", exit)
	}
	var bad, diagnostics findings
	good := 0
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		if m := failedAssertion.FindStringSubmatch(line); m != nil {
			bad = append(bad, cmp.Or(m[1], "an assertion without a text"))
		} else if strings.HasPrefix(line, "ok ") {
			good++
		} else if strings.HasPrefix(line, `"error":`) {
			diagnostics = append(diagnostics, line)
		}
	}
	if good+len(bad) == 0 {
		bad = diagnostics
	}
	if len(bad) > 0 {
		return bad
	}
	return nil
}
