package shim

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/tests/command"
)

// volume is a mount of CRI.
func volume(host, container string, readOnly bool) object {
	return object{"host_path": host, "container_path": container, "readonly": readOnly}
}

// hasVolumes as a kubelet makes them.
func (p pod) hasVolumes() {
	t := p.t
	t.Helper()
	host := t.TempDir()
	put(t, host+"/data/sub/file", "sub\n")
	put(t, host+"/log", "")
	memory := host + "/memory"
	mountAt(t, memory)
	a := p.containerWith(idle, private(nil),
		volume(host+"/data", "/data", false), volume(host+"/data", "/data-ro", true), volume(host+"/data/sub", "/sub", false),
		volume(host+"/log", "/dev/termination-log", false), volume(memory, "/memory", false), volume(host, "/all-ro", true))
	p.in(a, "sh", "-c", "echo new >/data/new; echo more >>/sub/file; echo why >/dev/termination-log")
	for file, want := range map[string]string{"/data/new": "new\n", "/data/sub/file": "sub\nmore\n", "/log": "why\n"} {
		if got, err := os.ReadFile(host + file); err != nil || string(got) != want {
			t.Errorf("%s on the host: %q, %v", file, got, err)
		}
	}
	if got := p.in(a, "cat", "/data-ro/new", "/sub/file"); got != "new\nsub\nmore" {
		t.Errorf("read-only and of a part: %q", got)
	}
	for _, script := range []string{"echo no >/data-ro/new", "rm /data-ro/new", "mkdir /data-ro/dir", "touch /all-ro/data/new"} {
		if o := p.crictl("exec", "--sync", a, "sh", "-c", script).Run(); o.Code == 0 || !strings.Contains(o.Stderr+o.Stdout, "Read-only") {
			t.Errorf("%s: %v", script, o)
		}
	}
	// What is mounted below a read-only volume is writable, as with runc.
	p.in(a, "touch", "/all-ro/memory/below")
	if o := p.crictl("exec", "--sync", a, "sh", "-c", "dd if=/dev/zero of=/memory/file bs=1024 count=2000").Run(); o.Code == 0 || !strings.Contains(o.Stderr+o.Stdout, "No space left") {
		t.Errorf("a full volume: %v", o)
	}
	checkVolumeDevice(t, p)
}

// hasMemory in volumes that are empty at first, as kubelet makes them: the guest's
// own, shared by containers, of the size and with the owners that it has given them.
func (p pod) hasMemory() {
	t := p.t
	t.Helper()
	host := t.TempDir() + "/volumes/kubernetes.io~empty-dir"
	if err := os.MkdirAll(host, 0o755); err != nil {
		t.Fatal(err)
	}
	memory, sub := host+"/memory", t.TempDir()
	mountAt(t, memory)
	err := errors.Join(unix.Chmod(memory, 0o2770), os.Chown(memory, 0, 3000), os.Mkdir(memory+"/sub", 0o750), os.Chown(memory+"/sub", 1000, 3000))
	if err == nil {
		err = unix.Mount(memory+"/sub", sub, "", unix.MS_BIND, "")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(sub, unix.MNT_DETACH) })
	linux := private(object{"resources": object{"memory_limit_in_bytes": 64 << 20}})
	a := p.containerWith(idle, linux, volume(sub, "/sub", false))
	b := p.containerWith(idle, linux, volume(memory, "/memory", false), volume(memory, "/ro", true))
	if got := p.in(a, "stat", "-c", "%a %u:%g", "/sub"); got != "2750 1000:3000" {
		t.Errorf("directory of a volume: %s", got)
	}
	if got := p.in(b, "stat", "-c", "%a %u:%g", "/memory"); got != "2770 0:3000" {
		t.Errorf("volume: %s", got)
	}
	p.in(a, "sh", "-c", "echo of a >/sub/file")
	if got := p.in(b, "cat", "/memory/sub/file", "/ro/sub/file"); got != "of a\nof a" {
		t.Errorf("in the other container: %q", got)
	}
	if o := p.crictl("exec", "--sync", b, "sh", "-c", "touch /ro/new").Run(); o.Code == 0 || !strings.Contains(o.Stderr+o.Stdout, "Read-only") {
		t.Errorf("read-only: %v", o)
	}
	if o := p.crictl("exec", "--sync", b, "sh", "-c", "dd if=/dev/zero of=/memory/full bs=1024 count=2000").Run(); o.Code == 0 || !strings.Contains(o.Stderr+o.Stdout, "No space left") {
		t.Errorf("a full volume: %v", o)
	}
	if left, err := os.ReadDir(memory); err != nil || len(left) != 1 {
		t.Errorf("on the host: %v, %v", left, err)
	}
	p.in(b, "sh", "-c", "rm -r /memory/* && ln -s / /memory/sub")
	p.crictl("rm", "--force", a).Output()
	config := p.file(object{"metadata": object{"name": "link"}, "image": object{"image": image}, "linux": linux, "mounts": []object{volume(sub, "/sub", false)}})
	if o := p.crictl("create", p.id, config, p.config).Run(); o.Code == 0 {
		o = p.crictl("start", strings.TrimSpace(o.Stdout)).Run()
		if o.Code == 0 || !strings.Contains(o.Stderr, "symbolic links") {
			t.Errorf("a link that a container has put in the way: %v", o)
		}
	}
	p.crictl("rm", "--force", b).Output()
}

// mountAt mounts a tmpfs of one MiB at dir, which it makes.
func mountAt(t *testing.T, dir string) {
	t.Helper()
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// checkVolumeDevice gives a block device of the host to two containers of a pod.
func checkVolumeDevice(t *testing.T, one pod) {
	t.Helper()
	image := t.TempDir() + "/image"
	put(t, image, strings.Repeat("by the host\n", 1<<16))
	device := loopDevice(t, image)
	with := func(permissions string) string {
		t.Helper()
		return one.containerOf(idle, object{"linux": private(nil), "devices": []object{{"host_path": device, "container_path": "/dev/xvda", "permissions": permissions}}})
	}
	a, b := with("rwm"), with("r")
	const script = "head -c 12 /dev/xvda; printf 'by the guest' | dd of=/dev/xvda bs=4096 seek=1 conv=fsync 2>/dev/null; dd if=/dev/xvda bs=4096 skip=1 2>/dev/null | head -c 12"
	if got := one.in(a, "sh", "-c", script); got != "by the host\nby the guest" {
		t.Errorf("the device: %q", got)
	}
	if got := one.in(b, "sh", "-c", "dd if=/dev/xvda bs=4096 skip=1 2>/dev/null | head -c 12; echo no | dd of=/dev/xvda 2>/dev/null || echo refused"); got != "by the guestrefused" {
		t.Errorf("the device to read: %q", got)
	}
	one.crictl("rm", "--force", a, b).Output()
	f, err := os.OpenFile(device, os.O_RDWR|unix.O_EXCL, 0)
	if err != nil {
		t.Fatalf("it is in use still: %v", err)
	}
	defer f.Close()
	text := make([]byte, 12)
	if _, err := f.ReadAt(text, 4096); err != nil || string(text) != "by the guest" {
		t.Errorf("the host reads %q, %v", text, err)
	}
}

// program returns a directory with the program.
func program(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if out, err := exec.Command("cp", self, filepath.Join(dir, programName)).CombinedOutput(); err != nil {
		t.Fatalf("copy program: %v: %s", err, out)
	}
	return dir
}

// seesUpdatedVolume, a configMap or secret, whose link a kubelet swaps.
func (p pod) seesUpdatedVolume() {
	t := p.t
	t.Helper()
	host := t.TempDir()
	swap := func(version string) {
		t.Helper()
		put(t, host+"/.."+version+"/key", version)
		if err := os.Symlink(".."+version, host+"/..data_tmp"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(host+"/..data_tmp", host+"/..data"); err != nil {
			t.Fatal(err)
		}
	}
	swap("one")
	if err := os.Symlink("..data/key", host+"/key"); err != nil {
		t.Fatal(err)
	}
	a := p.containerWith("/self/"+programName+" /config >/tmp/events & "+idle, private(nil), volume(host, "/config", true), volume(program(t), "/self", true))
	for i := 0; p.in(a, "sh", "-c", "cat /tmp/events || :") == ""; i++ { // until the watch counts
		if i == 50 {
			t.Fatal("the container is not told of new files")
		}
		put(t, fmt.Sprint(host, "/new", i), "")
	}
	if got := p.in(a, "cat", "/config/key"); got != "one" {
		t.Errorf("%q", got)
	}
	swap("two")
	if err := os.RemoveAll(host + "/..one"); err != nil {
		t.Fatal(err)
	}
	command.Eventually(t, "the update is seen", func() bool { return p.in(a, "cat", "/config/key") == "two" })
	command.Eventually(t, "the container is told of it", func() bool { return strings.Contains(p.in(a, "sh", "-c", "cat /tmp/events || :"), "moved ..data") })
}

// sharesSocket between two containers.
func (p pod) sharesSocket() {
	t := p.t
	t.Helper()
	dir := t.TempDir()
	const serve = "ln -s /shared/log /dev/log; touch /tmp/out; exec syslogd -n -O /tmp/out"
	server := p.containerWith(serve, private(nil), volume(dir, "/shared", false))
	client := p.containerWith("ln -s /elsewhere/log /dev/log; "+idle, private(nil), volume(dir, "/elsewhere", false))
	command.Eventually(t, "the socket is there", func() bool {
		return p.crictl("exec", "--sync", client, "test", "-S", "/elsewhere/log").Run().Code == 0
	})
	p.in(client, "logger", "hello")
	command.Eventually(t, "the message has arrived", func() bool { return strings.Contains(p.in(server, "cat", "/tmp/out"), "hello") })
}
