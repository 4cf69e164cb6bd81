// Package busybox makes root file systems for tests out of the host's static
// busybox.
package busybox

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const (
	passwd = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"
	group  = "root:x:0:\nnogroup:x:65534:\n"
)

// Rootfs fills dir, which it makes, with busybox, a link for each of its
// applets, and the users root and nobody.
func Rootfs(dir string) error {
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return fmt.Errorf("find busybox: %w: apt-get install busybox-static", err)
	}
	for _, d := range []string{"bin", "etc", "proc", "sys", "dev", "tmp", "root", "var", "mnt"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	if err := os.Chmod(filepath.Join(dir, "tmp"), 0o1777); err != nil {
		return err
	}
	out, err := exec.Command("cp", busybox, filepath.Join(dir, "bin/busybox")).CombinedOutput()
	if err != nil {
		return fmt.Errorf("copy busybox: %w: %s", err, out)
	}
	if err := linkApplets(busybox, filepath.Join(dir, "bin")); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "etc/group"), []byte(group), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "etc/passwd"), []byte(passwd), 0o644)
}

func linkApplets(busybox, dir string) error {
	applets, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		return fmt.Errorf("list applets: %w", err)
	}
	for _, a := range strings.Fields(string(applets)) {
		if a == "busybox" {
			continue
		}
		if err := os.Symlink("busybox", filepath.Join(dir, a)); err != nil {
			return err
		}
	}
	return nil
}
