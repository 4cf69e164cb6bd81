// Package cri holds containerd with this runtime to critest, the validation suite
// of Kubernetes' Container Runtime Interface. MICROVM_BIN is the directory of the
// binaries, MICROVM_MACHINE the machine (kvm or software), MICROVM_CONTAINERD a
// list of directories, separated by colons, that each hold a containerd and its
// ctr, MICROVM_CRITEST the directory with critest and containerd's shim for runc.
// MICROVM_CRITEST_FOCUS is a regular expression for the names of the tests to run.
package cri

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/microvm/microvm/tests/containerd"
)

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == setuidProgram {
		tellUser()
		return
	}
	os.Exit(m.Run())
}

// TestMicrovm runs critest with every handler of this runtime. A test that is
// listed as failing has to fail, so that the lists cannot outlive their reasons;
// any other has to pass.
func TestMicrovm(t *testing.T) {
	eachDaemon(t, func(t *testing.T, bin, version string) {
		for _, handler := range []string{"microvm", "sandboxed"} {
			if handler == "sandboxed" && !containerd.KnowsSandboxes(version) {
				continue
			}
			t.Run(handler, func(t *testing.T) {
				each(t, bin, handler, func(t *testing.T, s spec) {
					b, beyond := boundaries[s.name()]
					why, anywhere := failsAnywhere[s.name()]
					switch {
					case beyond:
						expectFailure(t, s, b.finds, b.why)
						t.Skip("not applicable: it " + b.why)
					case anywhere:
						expectFailure(t, s, "", why)
						t.Skip("runc fails it, too: it " + why)
					case s.State != "passed":
						t.Errorf("%s after %v: %s\n%s", s.State, s.RunTime, s.Failure.Message, s.CapturedGinkgoWriterOutput)
					}
				})
			})
		}
	})
}

// TestPeer runs critest with runc, and holds it to the list of what that fails.
func TestPeer(t *testing.T) {
	eachDaemon(t, func(t *testing.T, bin, _ string) {
		each(t, bin, "runc", func(t *testing.T, s spec) {
			why, listed := failsAnywhere[s.name()]
			switch {
			case listed:
				expectFailure(t, s, "", why)
				t.Skip("it " + why)
			case s.State != "passed":
				t.Errorf("%s: %s\n%s", s.State, s.Failure.Message, s.CapturedGinkgoWriterOutput)
			}
		})
	})
}

func expectFailure(t *testing.T, s spec, finds, why string) {
	t.Helper()
	if s.State == "passed" {
		t.Fatalf("passes, though it is listed (it %s): take it off the list", why)
	}
	if !strings.Contains(s.Failure.Message, finds) {
		t.Errorf("fails for another reason than %q: %s\n%s", finds, s.Failure.Message, s.CapturedGinkgoWriterOutput)
	}
}

// eachDaemon runs a test with every containerd.
func eachDaemon(t *testing.T, test func(t *testing.T, bin, version string)) {
	list := filepath.SplitList(os.Getenv("MICROVM_CONTAINERD"))
	if len(list) == 0 {
		t.Fatal("MICROVM_CONTAINERD is not set: run `make critest`")
	}
	for _, bin := range list {
		version, err := containerd.Version(bin)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(version, func(t *testing.T) { test(t, bin, version) })
	}
}

// each judges every test of critest. One that critest skips is skipped.
func each(t *testing.T, bin, handler string, judge func(t *testing.T, s spec)) {
	ours, machine, critest := os.Getenv("MICROVM_BIN"), os.Getenv("MICROVM_MACHINE"), os.Getenv("MICROVM_CRITEST")
	if ours == "" || machine == "" || critest == "" {
		t.Fatal("MICROVM_BIN, MICROVM_MACHINE and MICROVM_CRITEST are not all set: run `make critest`")
	}
	focus := os.Getenv("MICROVM_CRITEST_FOCUS")
	dir := place(t)
	images, err := makeImages(dir)
	if err != nil {
		t.Fatal(err)
	}
	r, err := serve(images)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.close)
	path := strings.Join([]string{critest, bin, ours, os.Getenv("PATH")}, ":")
	d, err := newDaemon(bin, filepath.Join(dir, "daemon"), path, handler, machine, r.url)
	if err == nil {
		t.Cleanup(d.Stop)
		err = d.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// A failed test may have left pods.
		if said, err := exec.Command(findCrictl(), "--runtime-endpoint", "unix://"+d.Socket(), "--image-endpoint", "unix://"+d.Socket(), "rmp", "--force", "--all").CombinedOutput(); err != nil {
			t.Errorf("remove pods: %v: %s", err, said)
		}
	})
	specs, err := runCritest(critest, dir, d.Socket(), handler, focus)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range specs {
		if s.State == "skipped" && s.Failure.Message == "" {
			continue // focus is on others
		}
		t.Run(s.name(), func(t *testing.T) {
			if s.State == "skipped" {
				t.Skip(s.Failure.Message)
			}
			judge(t, s)
		})
	}
}

// findCrictl is the path of crictl, which one of the containerds has beside it.
func findCrictl() string {
	for _, dir := range filepath.SplitList(os.Getenv("MICROVM_CONTAINERD")) {
		path := filepath.Join(dir, "crictl")
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return "crictl"
}

// place makes a directory with a short name, for sockets.
func place(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "cri-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}
