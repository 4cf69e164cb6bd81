package process

import (
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// The limits are the program's, not those of what sets the container up: a Go
// runtime does not fit in them.
func TestLowLimitsAreTheProgramsOnly(t *testing.T) {
	w := newWorld(t)
	spec := w.spec("sh", "-c", "ulimit -v; ulimit -d; ulimit -Hs; ulimit -n")
	spec.Process.Rlimits = []specs.POSIXRlimit{
		{Type: "RLIMIT_AS", Soft: 32 << 20, Hard: 64 << 20}, {Type: "RLIMIT_DATA", Soft: 1 << 20, Hard: 2 << 20},
		{Type: "RLIMIT_STACK", Soft: 1 << 20, Hard: 2 << 20}, {Type: "RLIMIT_NOFILE", Soft: 60, Hard: 64},
	}
	code, stdout, stderr := w.run(spec)
	if code != 0 || stdout != "32768\n1024\n2048\n60\n" {
		t.Errorf("got %d, %q, %q", code, stdout, stderr)
	}
}
