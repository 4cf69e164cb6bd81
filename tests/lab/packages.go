package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// requirement is a Debian package and a file that shows that it is installed.
type requirement struct {
	pkg, file string
}

var requirements = []requirement{
	{"qemu-system-x86", qemuPath},
	{"e2fsprogs", "/sbin/mkfs.ext4"},
	{"kmod", "/sbin/depmod"},
	{"xz-utils", "/usr/bin/xz"},
}

// Prepare makes the host able to Run: it installs what is missing through apt,
// and unpacks a kernel into the cache (it installs none) if there is none yet.
// It leaves apt alone when nothing is missing. Progress goes to log.
func Prepare(ctx context.Context, log io.Writer) error {
	a := &apt{ctx: ctx, log: log}
	var missing []string
	for _, r := range requirements {
		if !exists(r.file) {
			missing = append(missing, r.pkg)
		}
	}
	if err := a.install(missing); err != nil {
		return err
	}
	// Debian 12 brings virtiofsd with QEMU, later ones have a package for it.
	if _, err := findVirtiofsd(); err != nil {
		if err := a.install([]string{"virtiofsd"}); err != nil {
			return err
		}
	}
	if _, err := FindKernel(); errors.Is(err, ErrNoKernel) {
		return a.unpackKernel(kernelCache())
	}
	return nil
}

// apt runs the package manager's commands, and updates its lists once if a
// command is needed at all.
type apt struct {
	ctx     context.Context
	log     io.Writer
	updated bool
}

func (a *apt) install(packages []string) error {
	if len(packages) == 0 {
		return nil
	}
	if os.Getuid() != 0 {
		return fmt.Errorf("install %s: only root can", strings.Join(packages, " "))
	}
	if err := a.update(); err != nil {
		return err
	}
	args := append([]string{"install", "-y", "-qq", "--no-install-recommends"}, packages...)
	return a.run("", "apt-get", args...)
}

func (a *apt) update() error {
	if a.updated || os.Getuid() != 0 {
		return nil
	}
	a.updated = true
	return a.run("", "apt-get", "update", "-qq")
}

// run runs a command in dir with its output in the log.
func (a *apt) run(dir, name string, args ...string) error {
	fmt.Fprintln(a.log, "lab:", name, strings.Join(args, " "))
	cmd := exec.CommandContext(a.ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	cmd.Stdout, cmd.Stderr = a.log, a.log
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run %s %s: %w", name, args[0], err)
	}
	return nil
}

// unpackKernel downloads Debian's current cloud kernel and unpacks it into dir.
// apt checks the package against its signed lists.
func (a *apt) unpackKernel(dir string) error {
	if err := a.update(); err != nil {
		return err
	}
	name, err := a.currentKernelPackage()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	work, err := os.MkdirTemp(filepath.Dir(dir), ".lab-kernel-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	if err := a.run(work, "apt-get", "download", "-qq", name); err != nil {
		return err
	}
	tree := filepath.Join(work, "tree")
	if err := a.unpack(work, tree, name); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.Rename(tree, dir)
}

// unpack unpacks the package's file in work and adds the list of dependencies
// that its installation would have made.
func (a *apt) unpack(work, tree, name string) error {
	files, _ := filepath.Glob(filepath.Join(work, name+"_*.deb"))
	if len(files) != 1 {
		return fmt.Errorf("unpack %s: %d packages downloaded", name, len(files))
	}
	if err := a.run(work, "dpkg-deb", "-x", files[0], tree); err != nil {
		return err
	}
	kernels, _ := filepath.Glob(filepath.Join(tree, "boot/vmlinuz-*"))
	if len(kernels) != 1 {
		return fmt.Errorf("unpack %s: %d kernels in it", name, len(kernels))
	}
	release := strings.TrimPrefix(filepath.Base(kernels[0]), "vmlinuz-")
	return a.run(work, "depmod", "-b", filepath.Dir(filepath.Dir(modulesBelow(tree))), release)
}

var kernelPackage = regexp.MustCompile(`(?m)^\s*Depends: (linux-image-\S+-cloud-amd64)$`)

// currentKernelPackage asks the metapackage for the kernel that it stands for.
func (a *apt) currentKernelPackage() (string, error) {
	output, err := exec.CommandContext(a.ctx, "apt-cache", "depends", "linux-image-cloud-amd64").Output()
	if err != nil {
		return "", fmt.Errorf("look up linux-image-cloud-amd64: %w", err)
	}
	match := kernelPackage.FindSubmatch(output)
	if match == nil {
		return "", fmt.Errorf("look up linux-image-cloud-amd64: it depends on no kernel")
	}
	return string(match[1]), nil
}
