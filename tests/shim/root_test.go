package shim

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	sandboxapi "github.com/containerd/containerd/api/runtime/sandbox/v1"
	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/agent/api"
	"github.com/microvm/microvm/tests/lab/labtest"
)

func tool(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", name, err, out)
	}
}

// ext4 makes an image with the files of dir.
func ext4(t *testing.T, dir string) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "image")
	tool(t, "mke2fs", "-q", "-t", "ext4", "-d", dir, image, "24M")
	return image
}

func erofs(t *testing.T, dir string) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "image")
	tool(t, "mkfs.erofs", "--quiet", image, dir)
	return image
}

// checkImage looks for faults of a file system that nobody uses, and for a file.
func checkImage(t *testing.T, image, file, want string) {
	t.Helper()
	tool(t, "e2fsck", "-fn", image)
	if out, err := exec.Command("debugfs", "-R", "cat "+file, image).Output(); err != nil || string(out) != want {
		t.Errorf("%s in %s: %q, %v", file, image, out, err)
	}
}

// layers are a hundred images, one on the other: busybox is the lowest, and each
// has a file of its own, and a directory over that of the ones below.
func layers(t *testing.T) (mounts []*api.Mount) {
	t.Helper()
	for n := range 99 {
		dir := t.TempDir()
		put(t, dir+fmt.Sprintf("/layer/%d", n), fmt.Sprintln(n))
		put(t, dir+"/top", fmt.Sprintln(n))
		if n == 50 {
			put(t, dir+"/layer/opaque", "")
			if err := unix.Setxattr(dir+"/layer", "trusted.overlay.opaque", []byte("y"), 0); err != nil {
				t.Fatal(err)
			}
		}
		mounts = append(mounts, &api.Mount{Type: "erofs", Source: erofs(t, dir), Options: []string{"ro", "loop"}})
	}
	slices.Reverse(mounts)
	return append(mounts, &api.Mount{Type: "erofs", Source: erofs(t, rootfs), Options: []string{"ro", "loop"}})
}

// inRoot runs a script in a container of b with a root file system of mounts, and
// returns what it says.
func (b *bare) inRoot(id, script string, mounts ...*api.Mount) string {
	b.t.Helper()
	ctx := b.t.Context()
	out := filepath.Join(b.t.TempDir(), "out")
	must(b.tasks.Create(ctx, b.rootRequest(id, script, out, mounts)))(b.t)
	must(b.tasks.Start(ctx, &api.StartRequest{Id: id}))(b.t)
	w := must(b.tasks.Wait(ctx, &api.WaitRequest{Id: id}))(b.t)
	must(b.tasks.Delete(ctx, &api.DeleteRequest{Id: id}))(b.t)
	text, err := os.ReadFile(out)
	if err != nil || w.GetExitStatus() != 0 {
		b.t.Errorf("%s: exit status %d, %v", id, w.GetExitStatus(), err)
	}
	if left, err := os.ReadDir(filepath.Join(filepath.Dir(b.dir), id, "rootfs")); err != nil || len(left) > 0 {
		b.t.Errorf("%s: the root file system on the host has %v, %v", id, left, err)
	}
	return string(text)
}

func (b *bare) rootRequest(id, script, out string, mounts []*api.Mount) *api.CreateTaskRequest {
	return &api.CreateTaskRequest{Id: id, Bundle: b.bundleIn("rootfs", id, script), Rootfs: mounts, Stdout: "file://" + out, Stderr: "file://" + out}
}

// TestRootsOnDisks has a pod whose containers, which come while it runs, have root
// file systems that the host does not mount.
func TestRootsOnDisks(t *testing.T) {
	b := startBare(t, bootstrap(t))
	b.started()
	image := ext4(t, rootfs)
	write := "cat /etc/replaced; echo by the guest >/new; dd if=/dev/zero of=/zeroes bs=1M count=2 2>/dev/null; sync; df -h / | grep -c /dev/vd"
	wantText(t, b.inRoot("image", write, &api.Mount{Type: "ext4", Source: image, Options: []string{"rw", "loop"}}), "lower\n1\n")
	checkImage(t, image, "/new", "by the guest\n")

	device := loopDevice(t, image)
	wantText(t, b.inRoot("device", "cat /new; echo again >/new", &api.Mount{Type: "ext4", Source: device}), "by the guest\n")
	tool(t, "losetup", "--detach", device)
	checkImage(t, image, "/new", "again\n")

	t.Run("layers", func(t *testing.T) {
		labtest.SameOnBoth(t)
		c := *b
		c.t = t
		c.rootsOfLayers()
	})
	wantText(t, b.inRoot("bound", "cat /etc/replaced; touch /no 2>/dev/null || echo read-only", &api.Mount{Type: "erofs", Source: erofs(t, rootfs), Options: []string{"ro"}},
		&api.Mount{Type: "format/bind", Source: "{{ mount 0 }}", Options: []string{"ro", "rbind"}}), "lower\nread-only\n")

	meta, blob := t.TempDir()+"/meta", t.TempDir()+"/blob"
	tool(t, "mkfs.erofs", "--quiet", "--chunksize=4096", "--blobdev="+blob, meta, rootfs)
	wantText(t, b.inRoot("parts", "cat /etc/replaced", &api.Mount{Type: "erofs", Source: meta, Options: []string{"ro", "loop", "device=" + blob}}), "lower\n")

	loop := []*api.Mount{{Type: "loop", Source: image}, {Type: "format/ext4", Source: "{{ mount 0 }}"}}
	wantText(t, b.inRoot("loop", "cat /new", loop...), "again\n")

	b.refuseRoots(image)
	ctx := t.Context()
	running := b.rootRequest("running", "while true; do echo stopped >/new; sleep 0.1; done", os.DevNull, []*api.Mount{{Type: "ext4", Source: image}})
	must(b.tasks.Create(ctx, running))(t)
	must(b.tasks.Start(ctx, &api.StartRequest{Id: "running"}))(t)
	time.Sleep(300 * time.Millisecond) // it writes
	must(b.sandbox.StopSandbox(t.Context(), &sandboxapi.StopSandboxRequest{SandboxID: b.id}))(t)
	must(b.tasks.Delete(ctx, &api.DeleteRequest{Id: "running"}))(t)
	checkImage(t, image, "/new", "stopped\n")
	b.shutdown()
}

// rootsOfLayers has a hundred, as the snapshotter for erofs has them, without and
// with a disk to write to.
func (b *bare) rootsOfLayers() {
	b.t.Helper()
	const look = "cat /top; ls /layer | wc -l; test -e /layer/49 || echo hidden; rm /layer/98; mkdir -p /tmp/x && echo by the guest >/tmp/x/new; ls /layer | wc -l; cat /tmp/x/new; grep -c erofs /proc/filesystems"
	const seen = "98\n50\nhidden\n49\nby the guest\n1\n"
	lower := layers(b.t)
	upper := b.t.TempDir()
	for _, dir := range []string{"fs", "work"} {
		if err := os.Mkdir(upper+"/"+dir, 0o755); err != nil {
			b.t.Fatal(err)
		}
	}
	wantText(b.t, b.inRoot("hundred", look, append(slices.Clone(lower), &api.Mount{Type: "format/mkdir/overlay", Source: "overlay", Options: []string{
		"workdir=" + upper + "/work", "upperdir=" + upper + "/fs", "lowerdir={{ overlay 0 99 }}",
	}})...), seen)
	if text, err := os.ReadFile(upper + "/fs/tmp/x/new"); err != nil || string(text) != "by the guest\n" {
		b.t.Errorf("in the upper layer: %q, %v", text, err)
	}

	empty := ext4(b.t, b.t.TempDir())
	mounts := append([]*api.Mount{{Type: "ext4", Source: empty, Options: []string{"rw", "loop"}}}, lower...)
	mounts = append(mounts, &api.Mount{Type: "format/mkdir/overlay", Source: "overlay", Options: []string{
		"X-containerd.mkdir.path={{ mount 0 }}/upper:0755", "X-containerd.mkdir.path={{ mount 0 }}/work:0755",
		"workdir={{ mount 0 }}/work", "upperdir={{ mount 0 }}/upper", "lowerdir={{ overlay 1 100 }}",
	}})
	wantText(b.t, b.inRoot("quota", look, mounts...), seen)
	checkImage(b.t, empty, "/upper/tmp/x/new", "by the guest\n")
	wantText(b.t, b.inRoot("again", "cat /tmp/x/new; test -e /layer/98 || echo gone", mounts...), "by the guest\ngone\n")
}

func wantText(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// refuseRoots wants errors with reasons, and that nothing is left in use then.
func (b *bare) refuseRoots(image string) {
	b.t.Helper()
	garbage := filepath.Join(b.t.TempDir(), "garbage")
	put(b.t, garbage, strings.Repeat("no file system", 1000))
	overlay := func(options ...string) []*api.Mount {
		return []*api.Mount{{Type: "ext4", Source: image}, {Type: "format/mkdir/overlay", Source: "overlay", Options: options}}
	}
	for i, c := range []struct {
		mounts []*api.Mount
		want   string
	}{
		{[]*api.Mount{{Type: "xfs", Source: image, Options: []string{"loop"}}}, "mount 0 of type xfs from " + image + ": a file system of type xfs on an image"},
		{[]*api.Mount{{Type: "ext4", Source: garbage}}, "mount 0 of type ext4: open the file system: invalid argument"},
		{[]*api.Mount{{Type: "ext4", Source: "/nowhere"}}, "no such file or directory"},
		{[]*api.Mount{{Type: "mkfs/ext4", Source: image}}, "the transformation mkfs is not supported"},
		{[]*api.Mount{{Type: "erofs", Source: image, Options: []string{"X-containerd.dmverity=/x"}}}, "dm-verity"},
		{[]*api.Mount{{Type: "ext4", Source: image}, {Type: "ext4", Source: image}}, "another machine or program uses it"},
		{overlay("lowerdir={{ mount 1 }}"), "a template is about mount 1"},
		{overlay("lowerdir={{ mount x }}"), "is not understood"},
		{overlay("lowerdir={{ mount 0 }}", "X-containerd.mkdir.path={{ mount 0 }}/../../x"), "with a path in a mount before"},
	} {
		id := fmt.Sprint("refused-", i)
		_, err := b.tasks.Create(b.t.Context(), b.rootRequest(id, "true", os.DevNull, c.mounts))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			b.t.Errorf("want %q, got %v", c.want, err)
		}
	}
	if got := b.inRoot("at-last", "cat /new", &api.Mount{Type: "ext4", Source: image}); got != "again\n" {
		b.t.Errorf("afterwards: %q", got)
	}
}

func loopDevice(t *testing.T, image string) string {
	t.Helper()
	_ = exec.Command("modprobe", "loop").Run() // which a kernel that has it built in does not need
	out, err := exec.Command("losetup", "--find", "--show", image).Output()
	if err != nil {
		t.Fatalf("losetup: %v", err)
	}
	path := strings.TrimSpace(string(out))
	t.Cleanup(func() { _ = exec.Command("losetup", "--detach", path).Run() }) // the test has done so
	return path
}

// TestDiskSnapshotters runs containers on what real ones hand over: images, and layers
// that a mount manager leaves to the shim.
func TestDiskSnapshotters(t *testing.T) {
	labtest.SameOnBoth(t)
	const script = "cat /etc/added /etc/replaced; test -e /etc/removed || echo removed; echo new >/etc/replaced && cat /etc/replaced; head -n 1 /proc/mounts"
	for _, d := range daemons {
		if len(d.handlers) == 1 {
			continue // a version without these snapshotters
		}
		for name, root := range map[string]string{"blockfile": "/dev/vda1 / ext4 rw,", "erofs": "overlay / overlay rw,"} {
			t.Run(d.name+" "+name, func(t *testing.T) {
				s := newSite(t, d)
				got := s.run(s.container(), "--rm", "--snapshotter", name, "--", "sh", "-c", script).Output()
				if want := "upper\nupper\nremoved\nnew\n" + root; !strings.HasPrefix(got, want) {
					t.Errorf("got %q, want %q", got, want)
				}
			})
		}
	}
}

// TestPodOnDisks has its sandbox and containers on images, and the sandbox's
// program in the guest, for it holds the processes that are shared.
func TestPodOnDisks(t *testing.T) {
	labtest.SameOnBoth(t)
	for _, d := range daemons {
		if len(d.handlers) == 1 {
			continue // a version without the snapshotter
		}
		withPods(t, d, onDisks, func(t *testing.T, p pods) {
			one := p.pod(nil)
			shared := withNamespaces(nil, object{"network": ofNode, "pid": ofPod})
			a, b := one.container("exec sleep 1111", shared), one.container("exec sleep 2222", shared)
			const script = "ps; head -n 1 /proc/mounts; echo new >/new"
			for _, id := range []string{a, b} {
				if got := p.in(id, "sh", "-c", script); !strings.Contains(got, "sleep 1111\n") || !strings.Contains(got, "sleep 2222\n") || !strings.Contains(got, "\n/dev/vda") || !strings.Contains(got, " / ext4 rw,") {
					t.Errorf("%q", got)
				}
			}
			p.crictl("rm", "--force", a).Output()
			c := one.container(idle, shared)
			if got := p.in(c, "sh", "-c", "test -e /new || cat /etc/replaced"); got != "upper" {
				t.Errorf("a new one: %q", got)
			}
		})
	}
}

// devmapper is a daemon's configuration for thin volumes.
const devmapper = `[plugins."io.containerd.snapshotter.v1.devmapper"]
  root_path = "DIR/devmapper"
  pool_name = "POOL"
  base_image_size = "64MB"
  fs_type = "ext4"
`

// thinPool makes a pool of the device mapper, and returns its name.
func thinPool(t *testing.T) string {
	t.Helper()
	if out, err := exec.Command("modprobe", "dm_thin_pool").CombinedOutput(); err != nil {
		t.Skipf("needs the kernel's thin provisioning: modprobe: %v: %s", err, out)
	}
	device := func(name string, size int64) string {
		t.Helper()
		file := filepath.Join(t.TempDir(), name)
		put(t, file, "")
		if err := os.Truncate(file, size); err != nil {
			t.Fatal(err)
		}
		return loopDevice(t, file)
	}
	t.Setenv("DM_DISABLE_UDEV", "1") // nodes are made also where there is no udev
	const pool, size = "microvm-test", 256 << 20
	tool(t, "dmsetup", "create", pool, "--table", fmt.Sprintf("0 %d thin-pool %s %s 128 0", size/512, device("metadata", 4<<20), device("data", size)))
	t.Cleanup(func() { removePool(t, pool) })
	return pool
}

// removePool does so with the volumes of images, which are left in it.
func removePool(t *testing.T, pool string) {
	t.Helper()
	out, err := exec.Command("dmsetup", "ls").Output()
	if err != nil {
		t.Fatalf("dmsetup ls: %v", err)
	}
	for line := range strings.Lines(string(out)) {
		if name := strings.Fields(line)[0]; strings.HasPrefix(name, pool+"-") {
			tool(t, "dmsetup", "remove", name)
		}
	}
	tool(t, "dmsetup", "remove", pool)
}

// TestDeviceMapper has thin volumes, with the oldest daemon.
func TestDeviceMapper(t *testing.T) {
	pool := thinPool(t)
	d, err := makeDaemon(daemons[0].Bin, filepath.Join(t.TempDir(), "d"), configuration+strings.ReplaceAll(devmapper, "POOL", pool))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.begin(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Stop)
	s := newSite(t, d)
	id := s.container()
	const script = "cat /etc/added; head -n 1 /proc/mounts; echo new >/new"
	if got := s.run(id, "--rm", "--snapshotter", "devmapper", "--", "sh", "-c", script).Output(); !strings.HasPrefix(got, "upper\n/dev/vda1 / ext4 rw,") {
		t.Errorf("got %q", got)
	}
}
