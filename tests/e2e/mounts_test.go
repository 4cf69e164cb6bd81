package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/tests/lab/labtest"
)

// hostTree writes files, by path with their text, below a new directory.
func hostTree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for path, text := range files {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// mountTmpfs mounts a file system of the host at dir until the test ends.
func mountTmpfs(t *testing.T, dir string, flags uintptr) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", flags, "size=3m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
}

func bind(source, destination string, options ...string) specs.Mount {
	return specs.Mount{Type: "bind", Source: source, Destination: destination, Options: append([]string{"rbind"}, options...)}
}

// TestVolumesAndTheHostsMounts unmounts what a container has as a volume, and
// mounts something below others.
func TestVolumesAndTheHostsMounts(t *testing.T) {
	s := newSite(t)
	dirs := map[string]string{}
	for _, name := range []string{"ended", "private", "slave"} {
		dirs[name] = t.TempDir()
		if err := os.Mkdir(filepath.Join(dirs[name], "sub"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mount("tmpfs", dirs["ended"], "tmpfs", 0, "size=3m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dirs["ended"], unix.MNT_DETACH) })
	if err := os.WriteFile(filepath.Join(dirs["ended"], "file"), []byte("still here"), 0o644); err != nil {
		t.Fatal(err)
	}
	id, _, _ := s.detached(s.bundle(sh("sleep 1000; true"), func(spec *specs.Spec) {
		spec.Mounts = append(spec.Mounts, bind(dirs["ended"], "/ended"), bind(dirs["private"], "/private"), bind(dirs["slave"], "/slave", "rslave"))
	}))
	s.waitStatus(id, "running")
	if err := unix.Unmount(dirs["ended"], 0); err != nil {
		t.Errorf("the container keeps the host from unmounting its volume: %v", err)
	}
	for _, name := range []string{"private", "slave"} {
		sub := filepath.Join(dirs[name], "sub")
		mountTmpfs(t, sub, 0)
		if err := os.WriteFile(filepath.Join(sub, "late"), []byte("late"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	o := s.command("exec", id, "sh", "-c", "cat /ended/file; echo; find /private /slave -name late").Run()
	if want := "still here\n/slave/sub/late\n"; o.Stdout != want {
		t.Errorf("want %q, %v", want, o)
	}
	if o := s.command("delete", "--force", id).Run(); o.Code != 0 { // the slave keeps its mount busy
		t.Error(o)
	}
}

const mountsScript = `
check() { what=$1; shift; "$@" && echo "ok $what" || echo "FAILED $what"; }
not() { ! "$@" 2>/dev/null; }
options() { awk -v d=$1 '$5 == d { o = $6 " " $7 " " $8 } END { print o }' /proc/self/mountinfo; }
has() { case $(options $1) in *$2*) ;; *) options $1; false ;; esac; }
check tmpcopyup grep -q root: /etc/passwd
check file-on-nothing grep -q text /new/deep/file
check through-symlink grep -q text /mnt/x/dir/file
check mounted-source grep -q text /again/x/file
check below-a-mount grep -q text /t/inner/dir/file
check read-only not touch /ro/x
check read-only-dir not touch /ro/dir/x
check read-only-file sh -c '! echo no >>/ro/dir/file'
check mount-in-read-only touch /ro/dir/sub/written
check mount-in-recursively-read-only not touch /rro/dir/sub/x
check recursively-read-only has /rro ro,
check nosuid has /rro nosuid
check shared has /shared shared:
check as-on-the-host has /strict noexec
check not-as-on-the-host not has /lax noexec
check still-as-on-the-host has /lax nosuid
check relative-destination test -e /mnt/relative/dir/file
check twice test -e /twice/file
check relative test -x /self/bin/busybox
check null-device sh -c 'test -c /nul && echo x >/nul'
check sys test -d /host/sys/kernel
check sys-read-only has /host/sys ro,
check own-proc grep -qx init /host/proc/1/comm
check cgroup test -e /sys/fs/cgroup/cgroup.controllers
check shm-size test "$(stat -f -c %T:%b:%S /dev/shm)" = tmpfs:768:4096
check submount-hidden test ! -e /bind/sub/below
check submount-shown test -e /rbind/sub/below
check own-devices test "$(stat -c %d / /ro /rbind /rbind/sub | sort -u | wc -l)" = 4
check one-device test "$(stat -c %d /rbind)" = "$(stat -c %d /rbind/file)"
check idmap test "$(stat -c %u:%g /idmap/dir/file)" = 1000:1000
check overlay-lower grep -q lower /over/lower
check overlay-write sh -c 'echo changed >/over/lower && echo new >/over/dir2'
check overlay-delete sh -c 'rm -r /over/d && mkdir /over/d && test -z "$(ls /over/d)"'
check overlay-rename mv /over/moved /over/there
check device-mode test "$(stat -c %a:%u:%g:%t:%T /dev/mine)" = 640:5:6:1:5
check fifo test -p /dev/pipe
check loop test -b /dev/loop9
check no-host-device test ! -e /dev/absent
check nobodys-device test "$(stat -c %F:%t:%T /dev/nobodys)" = "character special file:a:29a"
check loop-mount sh -c 'test -c /dev/loop-control'
`

// hostDevice is a device of this host that no guest has: a virtual terminal,
// a serial port, or a disk.
func hostDevice(t *testing.T) specs.LinuxDevice {
	t.Helper()
	for _, d := range []specs.LinuxDevice{
		{Type: "c", Major: 4, Minor: 1}, {Type: "c", Major: 4, Minor: 64}, {Type: "b", Major: 8}, {Type: "b", Major: 254},
	} {
		class := map[string]string{"c": "char", "b": "block"}[d.Type]
		if _, err := os.Stat(fmt.Sprintf("/sys/dev/%s/%d:%d", class, d.Major, d.Minor)); err == nil {
			d.Path = "/dev/absent"
			return d
		}
	}
	t.Fatal("this host has none of the usual devices")
	return specs.LinuxDevice{}
}

func TestMountsOfAllKinds(t *testing.T) {
	labtest.SameOnBoth(t)
	s := newSite(t)
	host := hostTree(t, map[string]string{
		"dir/file": "text", "low/lower": "lower", "low/d/x": "", "low/moved": "m", "over/upper/.k": "", "over/work/.k": "",
	})
	mountTmpfs(t, filepath.Join(host, "dir/sub"), 0)
	if err := os.WriteFile(filepath.Join(host, "dir/sub/below"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	mountTmpfs(t, filepath.Join(host, "shm"), 0)
	mountTmpfs(t, filepath.Join(host, "strict"), unix.MS_NOEXEC|unix.MS_NOSUID)
	all := "rwm"
	b := s.bundle(sh(mountsScript), func(spec *specs.Spec) {
		one := bind(host, "/bind")
		one.Source, one.Options = host+"/dir", []string{"bind"}
		ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 1000, Size: 1000}}
		mapped := bind(host, "/idmap")
		mapped.UIDMappings, mapped.GIDMappings = ids, ids
		var kept []specs.Mount
		for _, m := range spec.Mounts {
			if m.Destination != "/dev/shm" && m.Destination != "/sys/fs/cgroup" {
				kept = append(kept, m)
			}
		}
		spec.Mounts = append(kept,
			specs.Mount{Type: "tmpfs", Source: "tmpfs", Destination: "/etc", Options: []string{"tmpcopyup"}},
			bind(host+"/dir/file", "/new/deep/file"), bind(host, "/link/x"),
			specs.Mount{Type: "tmpfs", Source: "tmpfs", Destination: "/t"}, bind(host, "/t/inner"),
			bind(host, "/ro", "ro"), bind(host, "/rro", "rro", "rnosuid"), bind(host, "/shared", "rshared", "mode=755"),
			bind("rootfs", "/self"), bind("/dev/null", "/nul"), bind("/sys", "/host/sys", "ro"), bind("/proc", "/host/proc"),
			bind("/sys/fs/cgroup", "/sys/fs/cgroup", "ro"), bind(host+"/shm", "/dev/shm"),
			one, bind(host+"/dir", "/rbind"), mapped, bind(host+"/strict", "/strict"), bind(host+"/strict", "/lax", "exec"),
			bind(host, "mnt/relative"), bind(host, "/twice"), bind(host+"/dir", "/twice"),
			bind(host+"/dir", "/tree/x"), bind("rootfs/tree", "/again"),
			specs.Mount{Type: "overlay", Source: "overlay", Destination: "/over", Options: []string{
				"lowerdir=" + host + "/low", "upperdir=" + host + "/over/upper", "workdir=" + host + "/over/work"}},
		)
		mode, uid, gid := os.FileMode(0o640), uint32(5), uint32(6)
		spec.Linux.Devices = []specs.LinuxDevice{
			{Path: "/dev/mine", Type: "c", Major: 1, Minor: 5, FileMode: &mode, UID: &uid, GID: &gid},
			{Path: "/dev/pipe", Type: "p"}, hostDevice(t), {Path: "/dev/nobodys", Type: "c", Major: 10, Minor: 666},
			{Path: "/dev/loop9", Type: "b", Major: 7, Minor: 9}, {Path: "/dev/loop-control", Type: "c", Major: 10, Minor: 237},
		}
		spec.Linux.Resources.Devices = []specs.LinuxDeviceCgroup{{Allow: true, Access: all}}
	})
	if err := os.Symlink("/mnt", b.rootfs("link")); err != nil {
		t.Fatal(err)
	}
	o := s.runBundle(b)
	if o.Code != 0 || strings.Contains(o.Stdout, "FAILED") || strings.Count(o.Stdout, "ok ") != strings.Count(mountsScript, "\ncheck ") {
		t.Errorf("%v", o)
	}
	if !strings.Contains(o.Stderr, "/dev/absent") || !strings.Contains(o.Stderr, "/host/sys") {
		t.Errorf("nobody was told what differs: %s", o.Stderr)
	}
	checkUpper(t, host)
}

// checkUpper looks at what the overlay mount has left on the host.
func checkUpper(t *testing.T, host string) {
	t.Helper()
	upper := filepath.Join(host, "over/upper")
	for path, want := range map[string]string{"lower": "changed\n", "dir2": "new\n", "there": "m"} {
		if got, err := os.ReadFile(filepath.Join(upper, path)); string(got) != want {
			t.Errorf("%s: %q %v", path, got, err)
		}
	}
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(upper, "moved"), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != 0 {
		t.Errorf("the whiteout: %v %o", err, st.Mode)
	}
	if got, err := os.ReadFile(filepath.Join(host, "low/lower")); string(got) != "lower" {
		t.Errorf("the lower layer was changed: %q %v", got, err)
	}
}

// TestUserNamespace runs a container whose root is somebody else on the host,
// with a volume that is mapped as engines do it.
func TestUserNamespace(t *testing.T) {
	s := newSite(t)
	host := hostTree(t, map[string]string{"file": "text"})
	ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
	b := s.bundle(sh("stat -c %u /bin/busybox /vol/file; touch /vol/new /mine && cat /proc/self/uid_map"), func(spec *specs.Spec) {
		spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
		spec.Linux.UIDMappings, spec.Linux.GIDMappings = ids, ids
		vol := bind(host, "/vol", "idmap")
		vol.UIDMappings, vol.GIDMappings = ids, ids
		spec.Mounts = append(spec.Mounts, vol)
	})
	err := filepath.WalkDir(b.rootfs(""), func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, 100000, 100000)
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Fields(s.output(b)); strings.Join(got, " ") != "0 0 0 100000 65536" {
		t.Errorf("owners and mapping: %v", got)
	}
	for path, want := range map[string]uint32{filepath.Join(host, "new"): 0, b.rootfs("mine"): 100000} {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil || st.Uid != want {
			t.Errorf("%s: owner %d %v, want %d", path, st.Uid, err, want)
		}
	}
}
