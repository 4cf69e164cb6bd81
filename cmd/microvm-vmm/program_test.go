//go:build !cgo

package main

import (
	"os"
	"testing"
)

// program is what is run as microvm-vmm: the test binary itself.
func program(t testing.TB) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func removeProgram() {}
