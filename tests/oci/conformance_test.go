package oci

import (
	"os"
	"path/filepath"
	"testing"
)

// TestConformance runs every program with microvm-runtime. A program that is
// listed as failing has to fail, so that the lists cannot outlive their
// reasons; any other has to pass.
func TestConformance(t *testing.T) {
	bin, machine := os.Getenv("MICROVM_BIN"), os.Getenv("MICROVM_MACHINE")
	if bin == "" || machine == "" {
		t.Skip("MICROVM_BIN and MICROVM_MACHINE are not set: run `make conformance`")
	}
	each(t, []string{filepath.Join(bin, "microvm-runtime"), "--machine", machine}, func(t *testing.T, name string, err error) {
		why, boundary := notApplicable[name]
		known, runcToo := runcFails[name]
		switch {
		case err == nil && boundary:
			t.Errorf("passes, though it is listed as not applicable: %s: take it off the list", why)
		case err == nil && runcToo && !known.passes:
			t.Errorf("passes, though it is listed as failing: %s: list it as passing", known.why)
		case err == nil:
		case boundary:
			t.Skipf("not applicable: %s", why)
		case runcToo && !known.passes:
			t.Skipf("runc fails it, too: %s", known.why)
		default:
			t.Error(err)
		}
	})
}

// TestPeer runs every program with the runtime that MICROVM_OCI_PEER names,
// usually runc, and holds it to the list of what runc fails.
func TestPeer(t *testing.T) {
	peer := os.Getenv("MICROVM_OCI_PEER")
	if peer == "" {
		t.Skip("MICROVM_OCI_PEER is not set: run `make conformance PEER=runc` to measure runc, too")
	}
	each(t, []string{peer}, func(t *testing.T, name string, err error) {
		switch _, listed := runcFails[name]; {
		case listed && err == nil:
			t.Errorf("passes with %s, though the list says that runc fails it", peer)
		case listed:
			t.Skipf("fails with %s, as listed: %v", peer, err)
		case err != nil:
			t.Errorf("fails with %s, and is not listed: %v", peer, err)
		}
	})
}

// each runs every program with runtime, one after the other: those for cgroups
// all use the same cgroup.
func each(t *testing.T, runtime []string, judge func(t *testing.T, name string, err error)) {
	programs, rootfs := os.Getenv("MICROVM_OCI_PROGRAMS"), os.Getenv("MICROVM_OCI_ROOTFS")
	if programs == "" || rootfs == "" {
		t.Fatal("MICROVM_OCI_PROGRAMS and MICROVM_OCI_ROOTFS are not set: run `make conformance`")
	}
	s, err := newSite(t.TempDir(), programs, rootfs, runtime...)
	if err != nil {
		t.Fatal(err)
	}
	names, err := s.names()
	if err != nil {
		t.Fatal(err)
	}
	if len(names) == 0 {
		t.Fatalf("no programs in %s", programs)
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			output, err := s.run(name)
			if err != nil {
				t.Logf("output:\n%.4000s", output)
			}
			judge(t, name, err)
		})
	}
}
