// Package labtest is for tests that run in the lab as well as on the host.
package labtest

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// SameOnBoth skips a test in the lab, which is slow, as what it tests is the
// runtime's, the agent's or the guest kernel's alone, whatever the machine.
// MICROVM_LONG has it run there, too.
func SameOnBoth(t *testing.T) {
	t.Helper()
	if os.Getenv("LAB") != "" && os.Getenv("MICROVM_LONG") == "" {
		t.Skip("runs on the software machine, and in the lab with MICROVM_LONG=1")
	}
}

// Tell says in the lab when a command of the test's has taken its time: who waits for
// the test hears that the machine goes on.
func Tell(t *testing.T, began time.Time) {
	if took := time.Since(began); os.Getenv("LAB") != "" && took > time.Second {
		fmt.Fprintf(os.Stderr, "%s: a command took %v\n", t.Name(), took.Round(time.Second/10))
	}
}
