package config

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// LibDir is where an installation keeps the guest's files, and libFromBin where
// one elsewhere does, seen from its programs.
const (
	LibDir     = "/usr/local/lib/microvm"
	libFromBin = "../lib/microvm"
)

// Names of the parts.
const (
	kernelName    = "vmlinux"
	initramfsName = "initramfs.cpio"
	vmmName       = "microvm-vmm"
	networkName   = "microvm-network"
	qemuName      = "qemu-system-x86_64"
)

// Artifact is a file that a VM is made of.
type Artifact struct {
	// Path is empty when it was not found.
	Path string
	// Err says what is missing and what to do.
	Err error
}

// Artifacts are the files that a VM is made of.
type Artifacts struct {
	Kernel, Initramfs, VMM, QEMU Artifact
	// Network is for a user-mode network only.
	Network Artifact
}

// Missing is the first error among those that the machine needs.
func (a Artifacts) Missing(machine string) error {
	need := []Artifact{a.Kernel, a.Initramfs, a.VMM}
	if machine == MachineSoftware {
		need = append(need, a.QEMU)
	}
	for _, n := range need {
		if n.Err != nil {
			return n.Err
		}
	}
	return nil
}

// Locate finds the files: where c says, else in exeDir, the directory of the
// running program, else in the lib directory beside that, else in LibDir. QEMU is also searched for in $PATH.
func (c Config) Locate(exeDir string) Artifacts {
	dirs := []string{exeDir, filepath.Join(exeDir, libFromBin)}
	if dirs[1] != LibDir {
		dirs = append(dirs, LibDir)
	}
	a := Artifacts{
		Kernel:    find("guest kernel", "kernel", c.Kernel, kernelName, dirs, `run "make kernel"`),
		Initramfs: find("guest initramfs", "initramfs", c.Initramfs, initramfsName, dirs, `run "make initramfs"`),
		VMM:       find("VM process", "vmm", c.VMM, vmmName, dirs, `run "make build"`),
	}
	a.Network = find("user-mode network", "network", "", networkName, dirs, `run "make build", or leave the network out`)
	a.QEMU = find("QEMU", "qemu", c.QEMU, qemuName, nil, `run "apt-get install qemu-system-x86"`)
	if c.QEMU == "" {
		if path, err := exec.LookPath(qemuName); err == nil {
			a.QEMU = Artifact{Path: path}
		}
	}
	return a
}

func find(what, key, configured, name string, dirs []string, remedy string) Artifact {
	if configured != "" {
		if err := regular(configured); err != nil {
			return Artifact{Err: fmt.Errorf("find %s (configured as %s): %w", what, key, err)}
		}
		return Artifact{Path: configured}
	}
	for _, d := range dirs {
		if path := filepath.Join(d, name); regular(path) == nil {
			return Artifact{Path: path}
		}
	}
	where := "$PATH"
	if len(dirs) > 0 {
		where = strings.Join(dirs, " and ")
	}
	return Artifact{Err: fmt.Errorf("find %s: no %s in %s: %s, or set %q in %s", what, name, where, remedy, key, DefaultPath)}
}

func regular(path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return &os.PathError{Op: "stat", Path: path, Err: errors.New("not a regular file")}
	}
	return nil
}
