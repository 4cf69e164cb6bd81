package guest

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/agent/api"
)

const (
	cgroupDir = "/sys/fs/cgroup"
	// StateDir is for what the agent has to remember, and for containers.
	StateDir = "/run/microvm/agent"
)

type mount struct {
	source, target, fs string
	flags              uintptr
	data               string
}

const nosuidEtc = unix.MS_NOSUID | unix.MS_NOEXEC | unix.MS_NODEV

// mounts are made in this order. The share has no flags: a container's root is
// a bind mount of it and would inherit them.
var mounts = []mount{
	{"devtmpfs", "/dev", "devtmpfs", unix.MS_NOSUID, "mode=755"},
	{"proc", "/proc", "proc", nosuidEtc, ""},
	{"sysfs", "/sys", "sysfs", nosuidEtc, ""},
	{"cgroup2", cgroupDir, "cgroup2", nosuidEtc, "nsdelegate,memory_recursiveprot"},
	{"devpts", "/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "mode=620,ptmxmode=666,gid=5"},
	{"tmpfs", "/dev/shm", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
	{"mqueue", "/dev/mqueue", "mqueue", nosuidEtc, ""},
	{"tmpfs", "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=755"},
	{"tmpfs", "/tmp", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
	{api.ExportsTag, api.ExportsDir, "virtiofs", 0, ""},
}

// MountAll makes the guest's file systems out of the bare initramfs.
func MountAll() error {
	if err := coverRoot(); err != nil {
		return err
	}
	for _, m := range mounts {
		if err := m.make(); err != nil {
			return err
		}
	}
	return enableControllers()
}

func (m mount) make() error {
	if err := os.MkdirAll(m.target, 0o755); err != nil {
		return fmt.Errorf("make mount point: %w", err)
	}
	err := unix.Mount(m.source, m.target, m.fs, m.flags, m.data)
	if m.fs == "virtiofs" && errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("mount %s: the machine has no virtio-fs device with the tag %q: %w", m.target, m.source, err)
	}
	if err != nil {
		return fmt.Errorf("mount %s on %s: %w", m.fs, m.target, err)
	}
	return nil
}

// coverRoot puts a bind mount of the initramfs over the root directory. The
// kernel's first mount has no parent, and pivot_root(2), which every container
// goes through, refuses to replace it.
func coverRoot() error {
	const dir = "/root"
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make mount point: %w", err)
	}
	if err := unix.Mount("/", dir, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind mount root: %w", err)
	}
	if err := unix.Chdir(dir); err != nil {
		return fmt.Errorf("enter new root: %w", err)
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move new root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("change root: %w", err)
	}
	return nil
}

// enableControllers lets child cgroups use every controller of the kernel.
func enableControllers() error {
	list, err := os.ReadFile(cgroupDir + "/cgroup.controllers")
	if err != nil {
		return fmt.Errorf("list cgroup controllers: %w", err)
	}
	names := strings.Fields(string(list))
	if len(names) == 0 {
		return nil
	}
	all := "+" + strings.Join(names, " +")
	if err := os.WriteFile(cgroupDir+"/cgroup.subtree_control", []byte(all), 0); err != nil {
		return fmt.Errorf("enable cgroup controllers %s: %w", all, err)
	}
	return nil
}
