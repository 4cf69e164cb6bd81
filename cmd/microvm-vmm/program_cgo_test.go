//go:build cgo

package main

import (
	"os"
	"os/exec"
	"sync"
	"testing"
)

var built struct {
	sync.Once
	dir string // made by program
	err error
}

// program is what is run as microvm-vmm. A test binary with cgo, as the race
// detector has it, cannot go to jail: the Go runtime does not know all its threads.
func program(t testing.TB) string {
	t.Helper()
	built.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "microvm-vmm-test"); built.err != nil {
			return
		}
		cmd := exec.Command("go", "build", "-o", built.dir+"/microvm-vmm", ".")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		cmd.Stderr = os.Stderr
		built.err = cmd.Run()
	})
	if built.err != nil {
		t.Fatalf("build microvm-vmm: %v", built.err)
	}
	return built.dir + "/microvm-vmm"
}

// removeProgram removes what program has built.
func removeProgram() {
	if built.dir != "" {
		os.RemoveAll(built.dir)
	}
}
