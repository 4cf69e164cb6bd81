package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// suite is a set of tests on one machine.
type suite struct {
	name, about string
	// command yields `go test -json` lines on its standard output; again says
	// that it is a compiled test, which yields `go test -v` text instead, and
	// whose few failures are run again.
	command []string
	again   bool
	// binaries run in the lab instead of command. They are compiled on the
	// host: the lab should not spend its emulated cycles on a compiler.
	binaries []binary
	env      []string
	// detailed says that its subtests are shown, too.
	detailed bool
}

var suites = []suite{
	{
		name: "unit", about: "unit tests of every package, with the race detector",
		command: []string{"go", "test", "-race", "-timeout=20m", "-json", "./cmd/...", "./vmm/...", "./agent/...", "./runtime/...", "./rootfs/...", "./netns/...", "./shim/...", "./tests/lab/...", "./tests/hostile/...", "./tests/layering/...", "./tests/suite/..."},
		env:     []string{"MICROVM_KERNEL=" + abs("bin/vmlinux")},
	},
	{
		name: "e2e-software", about: "containers end to end on the software machine",
		command: []string{"bin/tests/e2e.test", "-test.v=test2json", "-test.timeout=40m"}, again: true,
		env: []string{"MICROVM_MACHINE=software", "MICROVM_BIN=" + abs("bin")},
	},
	{
		name: "engines-software", about: "podman and docker on the software machine",
		command: []string{"bin/tests/engines.test", "-test.v=test2json", "-test.timeout=20m"}, again: true,
		env: []string{"MICROVM_MACHINE=software", "MICROVM_BIN=" + abs("bin")},
	},
	{
		name: "shim-software", about: "containerd, Debian's and one of the 2.x line, on the software machine",
		command: []string{"bin/tests/shim.test", "-test.v=test2json", "-test.timeout=30m"}, again: true,
		env: []string{"MICROVM_MACHINE=software", "MICROVM_BIN=" + abs("bin")},
	},
	{
		name: "chaos-software", about: "harm at random moments of containers, some rounds of it, on the software machine",
		command: []string{"bin/tests/chaos.test", "-test.v=test2json", "-test.timeout=20m", "-test.skip=^TestSoak$"}, again: true,
		env: []string{"MICROVM_MACHINE=software", "MICROVM_BIN=" + abs("bin"), "MICROVM_ROUNDS=8", "MICROVM_SEED=1"},
	},
	{
		name: "oci", about: "runtime-tools' validation programs on the software machine",
		command:  []string{"go", "test", "-count=1", "-parallel=2", "-timeout=20m", "-skip=^TestPeer$", "-json", "./tests/oci"},
		env:      []string{"MICROVM_MACHINE=software", "MICROVM_BIN=" + abs("bin")},
		detailed: true,
	},
	{
		name: "oci-peer", about: "the same programs with the runtime that MICROVM_OCI_PEER names",
		command:  []string{"go", "test", "-count=1", "-timeout=20m", "-run=^TestPeer$", "-json", "./tests/oci"},
		detailed: true,
	},
	{
		name: "cri", about: "critest through containerd on the software machine",
		command: []string{"go", "test", "-count=1", "-timeout=4h", "-skip=^TestPeer$", "-json", "./tests/cri"},
		env:     []string{"MICROVM_MACHINE=software", "MICROVM_BIN=" + abs("bin"), "CGO_ENABLED=0"},
	},
	{
		name: "cri-peer", about: "critest through containerd with runc",
		command: []string{"go", "test", "-count=1", "-timeout=1h", "-run=^TestPeer$", "-json", "./tests/cri"},
		env:     []string{"MICROVM_MACHINE=software", "MICROVM_BIN=" + abs("bin"), "CGO_ENABLED=0"},
	},
	{
		name: "kvm", about: "the embedded VMM with tiny guests and Linux on real KVM (in the lab where the CPU has none)",
		binaries: []binary{
			{"bin/tests/kvm.test", "vmm/kvm"}, {"bin/tests/x86.test", "vmm/x86"}, {"bin/tests/vmm.test", "vmm"},
			{"bin/tests/vsock.test", "vmm/virtio/vsock"}, {"bin/tests/microvm-vmm.test", "cmd/microvm-vmm"},
		},
		env: []string{"MICROVM_KVM=required", "MICROVM_KERNEL=" + abs("bin/vmlinux")},
	},
	{
		name: "e2e-kvm", about: "containers end to end on real KVM (in the lab where the CPU has none)",
		binaries: []binary{{"bin/tests/e2e.test", "."}},
		env:      []string{"MICROVM_MACHINE=kvm", "MICROVM_BIN=" + abs("bin")},
	},
	{
		name: "shim-kvm", about: "containerd, Debian's and one of the 2.x line, on real KVM (in the lab where the CPU has none)",
		binaries: []binary{{"bin/tests/shim.test", "."}},
		env:      []string{"MICROVM_MACHINE=kvm", "MICROVM_BIN=" + abs("bin")},
	},
	{
		name: "engines-kvm", about: "podman and docker on real KVM (in the lab where the CPU has none)",
		binaries: []binary{{"bin/tests/engines.test", "."}},
		env:      []string{"MICROVM_MACHINE=kvm", "MICROVM_BIN=" + abs("bin")},
	},
}

func find(name string) *suite {
	for i := range suites {
		if suites[i].name == name {
			return &suites[i]
		}
	}
	return nil
}

func abs(path string) string {
	wd, err := os.Getwd()
	if err != nil {
		return path
	}
	return wd + "/" + path
}

// run executes the suite and writes its whole output to the file logPath.
func (s *suite) run(logPath string) *result {
	fmt.Printf("\n== %s: %s\n", s.name, s.about)
	start := time.Now()
	res := newResult(s.name)
	res.detailed = s.detailed
	res.err = s.execute(res, logPath)
	res.took = time.Since(start)
	if len(res.with("pass"))+len(res.with("fail")) == 0 && res.err == nil {
		res.err = errors.New("no test ran")
	}
	return res
}

func (s *suite) execute(res *result, logPath string) error {
	log, err := os.Create(logPath)
	if err != nil {
		return err
	}
	defer log.Close()
	if s.binaries != nil {
		return s.executeInLab(res, log)
	}
	return s.executeHere(res, log)
}

// fewHere is how many failures are run again on this machine.
const fewHere = 2

func (s *suite) executeHere(res *result, log *os.File) error {
	if err := s.runHere(s.command, res, log); err != nil || !s.again {
		return err
	}
	return s.runAgain(res, s.name, fewHere, func(names []string) error {
		return s.runHere(append(slices.Clone(s.command), "-test.run", "^("+strings.Join(names, "|")+")$"), res, log)
	})
}

func (s *suite) runHere(command []string, res *result, log *os.File) error {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(os.Environ(), s.env...)
	cmd.Stderr = io.MultiWriter(os.Stderr, log)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	if s.again {
		err = res.convert(stdout, s.name, log)
	} else {
		err = res.collect(stdout, log)
	}
	// A failing test makes the command fail: that is told by the count.
	if err = errors.Join(err, cmd.Wait()); err != nil && (len(res.with("fail")) == 0 || s.again && brokeOff(cmd)) {
		return fmt.Errorf("%s: %s (see %s)", command[0], firstLine(err.Error()), log.Name())
	}
	return nil
}
