package guest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/microvm/microvm/tests/lab/wire"
	"golang.org/x/sys/unix"
)

// Directories of the initramfs under which the guest's root is put together.
const (
	hostDir = "/host" // the host's root, read-only
	diskDir = "/disk" // the scratch disk
	rootDir = "/root" // both as one overlay, soon to be /
)

// Tags of the shares, and the scratch disk's device.
const (
	RootTag     = "hostroot"
	OutputTag   = "out"
	scratchDisk = "/dev/vda"
)

// OutputVariable names the directory for results in the command's environment:
// OutputDir in the machine, the caller's own directory where there is none.
const OutputVariable = "LAB_OUT"

// Directories that the lab adds to the host's root.
const (
	OutputDir    = "/lab/out" // the caller's directory for results
	TemporaryDir = "/lab/tmp" // on the scratch disk: all that a file system can do
)

// mount is one line of the guest's fstab. The target is made if it is missing.
type mount struct {
	source, target, kind string
	flags                uintptr
	options              string
}

func (m mount) do() error {
	if err := os.MkdirAll(m.target, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(m.source, m.target, m.kind, m.flags, m.options); err != nil {
		return fmt.Errorf("mount %s on %s: %w", m.source, m.target, err)
	}
	return nil
}

func mountAll(mounts []mount) error {
	for _, m := range mounts {
		if err := m.do(); err != nil {
			return err
		}
	}
	return nil
}

// mountKernelFileSystems mounts under root what the kernel itself serves.
func mountKernelFileSystems(root string) error {
	return mountAll([]mount{
		{"proc", root + "/proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"sysfs", root + "/sys", "sysfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"devtmpfs", root + "/dev", "devtmpfs", unix.MS_NOSUID, "mode=755"},
	})
}

// enterHostRoot makes the host's root, under a writable layer, the root of this
// process and of all it starts.
func enterHostRoot(start *wire.Start) error {
	if err := mountRoot(); err != nil {
		return err
	}
	if err := mountKernelFileSystems(rootDir); err != nil {
		return err
	}
	if err := mountRunTime(); err != nil {
		return err
	}
	if err := mountLab(start); err != nil {
		return err
	}
	if err := switchRoot(); err != nil {
		return err
	}
	return prepareSystem(start)
}

func mountRoot() error {
	base := []mount{
		{RootTag, hostDir, "virtiofs", unix.MS_RDONLY, ""},
		{scratchDisk, diskDir, "ext4", unix.MS_NOATIME, ""},
	}
	if err := mountAll(base); err != nil {
		return err
	}
	for _, dir := range []string{"upper", "work"} {
		if err := os.Mkdir(filepath.Join(diskDir, dir), 0o755); err != nil {
			return err
		}
	}
	layers := fmt.Sprintf("lowerdir=%s,upperdir=%[2]s/upper,workdir=%[2]s/work", hostDir, diskDir)
	return mount{"overlay", rootDir, "overlay", 0, layers}.do()
}

// mountRunTime mounts what a Debian system has mounted when it is up.
func mountRunTime() error {
	const safe = unix.MS_NOSUID | unix.MS_NODEV
	return mountAll([]mount{
		{"devpts", rootDir + "/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "gid=5,mode=620,ptmxmode=666"},
		{"tmpfs", rootDir + "/dev/shm", "tmpfs", safe, "mode=1777"},
		{"mqueue", rootDir + "/dev/mqueue", "mqueue", safe | unix.MS_NOEXEC, ""},
		{"tmpfs", rootDir + "/run", "tmpfs", safe, "mode=755"},
		{"cgroup2", rootDir + "/sys/fs/cgroup", "cgroup2", safe | unix.MS_NOEXEC, ""},
		{"bpf", rootDir + "/sys/fs/bpf", "bpf", safe | unix.MS_NOEXEC, "mode=700"},
		{"debugfs", rootDir + "/sys/kernel/debug", "debugfs", safe | unix.MS_NOEXEC, "mode=700"},
	})
}

// mountLab mounts what exists for this run only.
func mountLab(start *wire.Start) error {
	mounts := []mount{
		scratch("tmp", TemporaryDir),
		{hostDir + start.Modules, rootDir + "/lib/modules", "", unix.MS_BIND, ""},
	}
	if start.Output {
		mounts = append(mounts, mount{OutputTag, rootDir + OutputDir, "virtiofs", unix.MS_NOSUID | unix.MS_NODEV, ""})
	}
	for i, dir := range start.Scratch {
		mounts = append(mounts, scratch(fmt.Sprint("scratch", i), dir))
	}
	for _, m := range mounts {
		if err := makeScratch(m.source); err != nil {
			return err
		}
		if err := m.do(); err != nil {
			return err
		}
	}
	return os.Chmod(rootDir+TemporaryDir, 0o1777)
}

// scratch is the mount of a fresh directory of the scratch disk on target.
func scratch(name, target string) mount {
	return mount{filepath.Join(diskDir, name), filepath.Join(rootDir, target), "", unix.MS_BIND, ""}
}

// makeScratch makes the directory if it is one of the scratch disk's.
func makeScratch(source string) error {
	if !strings.HasPrefix(source, diskDir+"/") {
		return nil
	}
	return os.Mkdir(source, 0o755)
}

// switchRoot makes rootDir the root. PID 1 shares its idea of the root with the
// kernel's threads, so that modprobe and core dumps find the new one too.
func switchRoot() error {
	if err := os.Chdir(rootDir); err != nil {
		return err
	}
	if err := unix.Mount(rootDir, "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move %s to /: %w", rootDir, err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("chroot: %w", err)
	}
	return os.Chdir("/")
}
