package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/tests/lab/labtest"
)

// newImage makes a file with an ext4 file system that has a file in it.
func newImage(t *testing.T) string {
	t.Helper()
	content := hostTree(t, map[string]string{"dir/file": "from the host"})
	image := filepath.Join(t.TempDir(), "image")
	if out, err := exec.Command("mke2fs", "-q", "-t", "ext4", "-d", content, image, "16M").CombinedOutput(); err != nil {
		t.Fatalf("mke2fs: %v: %s", err, out)
	}
	return image
}

// inImage is a file of the file system in image.
func inImage(t *testing.T, image, path string) string {
	t.Helper()
	out, err := exec.Command("debugfs", "-R", "cat "+path, image).Output()
	if err != nil {
		t.Fatalf("debugfs: %v", err)
	}
	return string(out)
}

func onDisk(kind, source, destination string, options ...string) func(*specs.Spec) {
	return func(spec *specs.Spec) {
		spec.Mounts = append(spec.Mounts, specs.Mount{Type: kind, Source: source, Destination: destination, Options: options})
	}
}

// TestManyDisks has more than a machine could have devices.
func TestManyDisks(t *testing.T) {
	s := newSite(t)
	image := newImage(t)
	var disks []func(*specs.Spec)
	for i := range 40 {
		disks = append(disks, onDisk("ext4", image, fmt.Sprint("/disk", i), "ro"))
	}
	if got, want := s.output(s.bundle(sh("cat /disk*/dir/file | wc -c; grep -c ' ext4 ro' /proc/mounts"), disks...)), "520\n40\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestDiskMount(t *testing.T) {
	s := newSite(t)
	rw, ro, layer := newImage(t), newImage(t), filepath.Join(t.TempDir(), "layer")
	if out, err := exec.Command("mkfs.erofs", layer, hostTree(t, map[string]string{"file": "from a layer"})).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.erofs: %v: %s", err, out)
	}
	out := s.output(s.bundle(sh(`cat /rw/dir/file /ro/dir/file /layer/file && echo; echo from the guest > /rw/new && touch /ro/new 2>&1; grep -c ' ext4 ' /proc/mounts
		dd if=/dev/zero of=/rw/zeroes bs=1M count=4 2>/dev/null && sync && wc -c < /rw/zeroes`),
		onDisk("ext4", rw, "/rw", "loop"), onDisk("ext4", ro, "/ro", "ro"), onDisk("erofs", layer, "/layer")))
	want := "from the hostfrom the hostfrom a layer\ntouch: /ro/new: Read-only file system\n2\n4194304\n"
	if out != want {
		t.Errorf("got %q, want %q", out, want)
	}
	if got := inImage(t, rw, "/new"); got != "from the guest\n" {
		t.Errorf("the image has %q", got)
	}
	if out, err := exec.Command("e2fsck", "-fn", rw).CombinedOutput(); err != nil {
		t.Errorf("e2fsck: %v: %s", err, out)
	}
}

// Two kernels on one file system would ruin it.
func TestDiskIsOneMachines(t *testing.T) {
	s := newSite(t)
	image := newImage(t)
	id, _, _ := s.detached(s.bundle(sh("sleep 1000; true"), onDisk("ext4", image, "/disk")))
	s.waitStatus(id, "running")
	for _, options := range [][]string{nil, {"ro"}} {
		o := s.runBundle(s.bundle(sh("true"), onDisk("ext4", image, "/disk", options...)))
		if o.Code == 0 || !strings.Contains(o.Stderr, "another machine or program uses it") {
			t.Errorf("%v: %v", options, o)
		}
	}
	s.command("delete", "--force", id).Output()
	if out := s.output(s.bundle(sh("cat /disk/dir/file"), onDisk("ext4", image, "/disk"))); out != "from the host" {
		t.Errorf("afterwards: %q", out)
	}
}

func TestDiskThatIsNone(t *testing.T) {
	labtest.SameOnBoth(t)
	s := newSite(t)
	text := filepath.Join(hostTree(t, map[string]string{"text": strings.Repeat("no file system", 1000)}), "text")
	for source, want := range map[string]string{
		"/nowhere": "no such file or directory", "/dev/null": "neither a file nor a block device", text: "invalid argument",
	} {
		if o := s.runBundle(s.bundle(sh("true"), onDisk("ext4", source, "/disk"))); o.Code == 0 || !strings.Contains(o.Stderr, want) {
			t.Errorf("%s: want %q, %v", source, want, o)
		}
	}
}

// TestBlockDevice gives a container a loop device of the host, which is not the
// guest's of the same number.
func TestBlockDevice(t *testing.T) {
	image := filepath.Join(t.TempDir(), "image")
	content := make([]byte, 64<<10)
	copy(content[4096:], "written by the host")
	if err := os.WriteFile(image, content, 0o600); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(loopDevice(t, image), &st); err != nil {
		t.Fatal(err)
	}
	major, minor := int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	device := func(access string) func(*specs.Spec) {
		return func(spec *specs.Spec) {
			mode, uid := os.FileMode(0o660), uint32(7)
			spec.Linux.Devices = append(spec.Linux.Devices, specs.LinuxDevice{Path: "/dev/xvdc", Type: "b", Major: major, Minor: minor, FileMode: &mode, UID: &uid})
			spec.Linux.Resources.Devices = append(spec.Linux.Resources.Devices, specs.LinuxDeviceCgroup{Allow: true, Type: "b", Major: &major, Minor: &minor, Access: access})
		}
	}
	s := newSite(t)
	const script = `stat -c %a:%u:%F /dev/xvdc; dd if=/dev/xvdc bs=1 skip=4096 count=19 2>/dev/null; echo
		printf 'by the guest' | dd of=/dev/xvdc bs=4096 seek=2 conv=fsync 2>/dev/null && echo written`
	if got, want := s.output(s.bundle(sh(script), device("rwm"))), "660:7:block special file\nwritten by the host\nwritten\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if content, err := os.ReadFile(image); err != nil || string(content[8192:8204]) != "by the guest" {
		t.Errorf("the host reads %q, %v", content[8192:8204], err)
	}
	if o := s.runBundle(s.bundle(sh(script), device("r"))); o.Code == 0 || strings.Contains(o.Stdout, "\nwritten\n") {
		t.Errorf("read-only: %v", o)
	}
}

// loopDevice puts image behind a loop device of the host.
func loopDevice(t *testing.T, image string) (path string) {
	t.Helper()
	_ = exec.Command("modprobe", "loop").Run() // which a kernel that has it built in does not need
	out, err := exec.Command("losetup", "--find", "--show", image).Output()
	if err != nil {
		t.Fatalf("losetup: %v", err)
	}
	path = strings.TrimSpace(string(out))
	t.Cleanup(func() { exec.Command("losetup", "--detach", path).Run() })
	return path
}
