//go:build !cgo

package main

import "testing"

// program is what is run as microvm-vmm: the test binary itself.
func program(testing.TB) string { return "/proc/self/exe" }

func removeProgram() {}
