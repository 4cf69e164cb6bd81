package oci

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// TestConformance runs every program with microvm-runtime. A program that is
// listed as failing has to fail, so that the lists cannot outlive their
// reasons; any other has to pass.
func TestConformance(t *testing.T) {
	bin, machine := os.Getenv("MICROVM_BIN"), os.Getenv("MICROVM_MACHINE")
	if bin == "" || machine == "" {
		t.Fatal("MICROVM_BIN and MICROVM_MACHINE are not set: run `make conformance`")
	}
	unjudged := func(name string) (why string) {
		if f := runcFails[name]; f.ours == either {
			return "by chance with any runtime: it " + f.why
		}
		return ""
	}
	each(t, []string{filepath.Join(bin, "microvm-runtime"), "--machine", machine}, unjudged, func(t *testing.T, name string, err error) {
		if b, ok := notApplicable[name]; ok {
			expectFailure(t, err, "not applicable: "+b.why)
			expectFindings(t, err, b.finds)
			t.Skip("not applicable: " + b.why)
		}
		f, listed := runcFails[name]
		switch {
		case !listed || f.ours == passes:
			if err != nil {
				t.Error(err)
			}
		default:
			expectFailure(t, err, f.why)
			t.Skip("runc fails it, too: it " + f.why)
		}
	})
}

func expectFailure(t *testing.T, err error, why string) {
	t.Helper()
	if err == nil {
		t.Fatalf("passes, though it is listed (%s): take it off the list, or list it as passing", why)
	}
}

// expectFindings allows a program only what it is listed for.
func expectFindings(t *testing.T, err error, allowed *regexp.Regexp) {
	t.Helper()
	var all findings
	if !errors.As(err, &all) {
		t.Fatal(err)
	}
	for _, f := range all {
		if !allowed.MatchString(f) {
			t.Errorf("finds more than it is listed for: %s", f)
		}
	}
}

// TestPeer runs every program with the runtime that MICROVM_OCI_PEER names,
// usually runc, and holds it to the list of what runc fails.
func TestPeer(t *testing.T) {
	peer := os.Getenv("MICROVM_OCI_PEER")
	if peer == "" {
		t.Fatal("MICROVM_OCI_PEER is not set: run `make conformance PEER=runc`")
	}
	unjudged := func(name string) (why string) {
		if f := runcFails[name]; f.varies {
			return "by chance, or by host: it " + f.why
		}
		return ""
	}
	each(t, []string{peer}, unjudged, func(t *testing.T, name string, err error) {
		switch _, listed := runcFails[name]; {
		case listed && err == nil:
			t.Errorf("passes with %s, though the list says that runc fails it", peer)
		case listed:
			t.Logf("fails with %s, as listed: %v", peer, err)
		case err != nil:
			t.Errorf("fails with %s, and is not listed: %v", peer, err)
		}
	})
}

// each runs every program with runtime, in parallel as far as -test.parallel
// allows; those that use the same cgroup one after the other. A program is left
// out if unjudged says why.
func each(t *testing.T, runtime []string, unjudged func(name string) (why string), judge func(t *testing.T, name string, err error)) {
	dir := os.Getenv("MICROVM_OCI_PROGRAMS")
	if dir == "" {
		t.Fatal("MICROVM_OCI_PROGRAMS is not set: run `make conformance`")
	}
	s := &suite{dir: dir, runtime: runtime}
	names, err := s.names()
	if err != nil {
		t.Fatal(err)
	}
	if len(names) == 0 {
		t.Fatalf("no programs in %s", dir)
	}
	one := func(t *testing.T, name string) {
		if _, missing := usesCgroup(name); missing != nil {
			t.Skipf("not applicable: it knows cgroup v1 only, of which this host has not %v", missing)
		}
		if why := unjudged(name); why != "" {
			t.Skip(why)
		}
		judge(t, name, s.try(t, name))
	}
	t.Run("cgroup", func(t *testing.T) {
		t.Parallel()
		t.Cleanup(removeParents)
		for _, name := range names {
			if uses, _ := usesCgroup(name); uses {
				t.Run(name, func(t *testing.T) { one(t, name) })
			}
		}
	})
	for _, name := range names {
		if uses, _ := usesCgroup(name); !uses {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				one(t, name)
			})
		}
	}
}

// removeParents removes the cgroups around those that programs name by a
// relative path, which runtimes leave.
func removeParents() {
	for _, pattern := range []string{"/sys/fs/cgroup/*/testdir/cgrouptest", "/sys/fs/cgroup/*/testdir"} {
		dirs, _ := filepath.Glob(pattern)
		for _, d := range dirs {
			os.Remove(d) // one that is in use stays
		}
	}
}

// try runs one program in a place of its own.
func (s *suite) try(t *testing.T, name string) error {
	t.Helper()
	p, err := s.newSite(place(t))
	if err != nil {
		t.Fatal(err)
	}
	output, found := p.run(name)
	if err := p.clear(); err != nil {
		t.Error(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("output of the program:\n%.4000s", output)
		}
	})
	return found
}

// place makes a directory that the root of a user namespace can pass through,
// which one of t.TempDir's is not.
func place(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "oci-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(unmountBelow(dir), os.RemoveAll(dir)); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}
