package sandbox

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// loop puts the file image behind a loop device of the host.
func loop(t *testing.T, image string, options ...string) string {
	t.Helper()
	out, err := exec.Command("losetup", append(options, "--find", "--show", image)...).Output()
	if err != nil {
		t.Fatalf("losetup: %v", err)
	}
	path := strings.TrimSpace(string(out))
	t.Cleanup(func() { exec.Command("losetup", "--detach", path).Run() })
	return path
}

func newImage(t *testing.T) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "image")
	if out, err := exec.Command("mke2fs", "-q", "-t", "ext4", image, "4M").CombinedOutput(); err != nil {
		t.Fatalf("mke2fs: %v: %s", err, out)
	}
	return image
}

func wantOpen(t *testing.T, d Disk, want string) *os.File {
	t.Helper()
	f, err := d.open()
	if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		t.Errorf("%+v: %v, want %q", d, err, want)
	}
	if f != nil {
		t.Cleanup(func() { f.Close() })
	}
	return f
}

func TestImageBehindLoopDevice(t *testing.T) {
	image := newImage(t)
	link := image + "-2"
	if err := os.Link(image, link); err != nil {
		t.Fatal(err)
	}
	ro := loop(t, link, "--read-only")
	wantOpen(t, Disk{Path: image, ReadOnly: true}, "").Close()
	wantOpen(t, Disk{Path: image}, "the host uses it through "+ro)
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	wantOpen(t, Disk{Path: image}, "the host uses it through "+ro)
	rw := loop(t, image)
	wantOpen(t, Disk{Path: image, ReadOnly: true}, "the host uses it through "+rw)
}

func TestMountedBlockDevice(t *testing.T) {
	device := loop(t, newImage(t))
	dir := t.TempDir()
	if out, err := exec.Command("mount", device, dir).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v: %s", err, out)
	}
	defer exec.Command("umount", dir).Run()
	for _, readOnly := range []bool{true, false} {
		wantOpen(t, Disk{Path: device, ReadOnly: readOnly}, "the host uses it: unmount it there")
	}
	if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
		t.Fatalf("umount: %v: %s", err, out)
	}
	wantOpen(t, Disk{Path: device, ReadOnly: true}, "")
	wantOpen(t, Disk{Path: device, ReadOnly: true}, "")
	wantOpen(t, Disk{Path: device}, "another machine or program uses it")
}
