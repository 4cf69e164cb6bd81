// Package oci holds microvm-runtime to what runc does in the validation
// programs of github.com/opencontainers/runtime-tools, see programs/go.mod.
package oci

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// patience bounds a program: some start sixteen machines.
const patience = 3 * time.Minute

// site is a directory with what the programs look for in their working
// directory, and the directory of the programs themselves.
type site struct {
	dir, programs string
	// runtime is the command that the programs call.
	runtime string
}

// newSite fills dir. The programs cannot give their runtime options, so that
// it gets those from a script; the state is kept below dir.
func newSite(dir, programs, rootfs string, runtime ...string) (*site, error) {
	s := &site{dir: dir, programs: programs, runtime: filepath.Join(dir, "runtime")}
	for from, to := range map[string]string{rootfs: "rootfs-amd64.tar.gz", filepath.Join(programs, "runtimetest"): "runtimetest"} {
		if err := copyFile(from, filepath.Join(dir, to)); err != nil {
			return nil, err
		}
	}
	var script strings.Builder
	script.WriteString("#!/bin/sh\nexec")
	for _, word := range append(runtime, "--root", filepath.Join(dir, "state")) {
		fmt.Fprintf(&script, " '%s'", word)
	}
	script.WriteString(" \"$@\"\n")
	return s, os.WriteFile(s.runtime, []byte(script.String()), 0o755)
}

// copyFile copies the file itself: the programs would copy a link as a link.
func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o755)
}

// names of the programs.
func (s *site) names() ([]string, error) {
	entries, err := os.ReadDir(s.programs)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.Name() != "runtimetest" {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// run executes a program to its end. Its error says what the program found.
func (s *site) run(name string) (output string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(s.programs, name))
	cmd.Dir, cmd.Env = s.dir, append(os.Environ(), "RUNTIME="+s.runtime)
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	return string(out), verdict(string(out), err)
}

// verdict judges a program by its exit code and what it wrote, in the Test
// Anything Protocol. The programs that check hooks make no assertion: they
// write an error into a diagnostic, or nothing when all is well.
func verdict(output string, exit error) error {
	if exit != nil {
		return fmt.Errorf("the program ended early: %w", exit)
	}
	var bad, diagnostics []string
	good := 0
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "not ok"):
			bad = append(bad, line)
		case strings.HasPrefix(line, "ok "):
			good++
		case strings.HasPrefix(line, `"error":`):
			diagnostics = append(diagnostics, line)
		}
	}
	if good+len(bad) == 0 {
		bad = diagnostics
	}
	if len(bad) > 0 {
		return errors.New(strings.Join(bad, "; "))
	}
	return nil
}
