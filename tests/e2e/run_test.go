package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/tests/lab/labtest"
)

func hostKernel(t *testing.T) string {
	t.Helper()
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	return unix.ByteSliceToString(u.Release[:])
}

func TestRunShowsOutputOfItsOwnKernel(t *testing.T) {
	s := newSite(t)
	out := strings.TrimSpace(s.output(s.bundle(sh("uname -r"))))
	if out == "" || out == hostKernel(t) {
		t.Fatalf("kernel inside is %q, on the host %q", out, hostKernel(t))
	}
}

func TestExitCodes(t *testing.T) {
	labtest.SameOnBoth(t)
	s := newSite(t)
	for script, want := range map[string]int{"exit 0": 0, "exit 7": 7, "exit 255": 255, "kill -9 $$": 137} {
		// A shell that is PID 1 of its namespace is deaf to its own signals.
		if o := s.runBundle(s.bundle(sh("sh -c '" + script + "'; exit $?"))); o.Code != want {
			t.Errorf("%q: want %d, %v", script, want, o)
		}
	}
}

func TestProcessFields(t *testing.T) {
	s := newSite(t)
	script := `echo args: $(tr '\0' ' ' </proc/1/cmdline)
echo cwd: $(pwd)
echo env: $FOO
echo id: $(id -u) $(id -g) $(id -G)
echo host: $(hostname)
grep CapEff /proc/self/status
grep NoNewPrivs /proc/self/status
echo nofile: $(ulimit -Sn) $(ulimit -Hn)
umask`
	b := s.bundle(sh(script), func(spec *specs.Spec) {
		umask := uint32(0o27)
		spec.Hostname = "inside"
		spec.Process.Cwd = "/tmp"
		spec.Process.Env = append(spec.Process.Env, "FOO=a b  c=d")
		spec.Process.User = specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{5, 6}, Umask: &umask}
		caps := []string{"CAP_CHOWN", "CAP_NET_RAW"}
		spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps, Inheritable: caps, Ambient: caps}
		spec.Process.NoNewPrivileges = true
		spec.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 200, Hard: 300}}
	})
	out := s.output(b)
	for _, want := range []string{
		"args: /bin/sh -c echo args:", "cwd: /tmp\n", "env: a b c=d\n", "id: 1000 1001 1001 5 6\n", "host: inside\n",
		"CapEff:\t0000000000002001\n", "NoNewPrivs:\t1\n", "nofile: 200 300\n", "0027\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

func TestRootIsShared(t *testing.T) {
	s := newSite(t)
	b := s.bundle(sh("cat /tmp/in && echo from the guest > /tmp/out && ls -l /tmp/out >/dev/null"))
	if err := os.WriteFile(b.rootfs("tmp/in"), []byte("from the host\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out := s.output(b); out != "from the host\n" {
		t.Errorf("read %q", out)
	}
	got, err := os.ReadFile(b.rootfs("tmp/out"))
	if err != nil || string(got) != "from the guest\n" {
		t.Errorf("written %q, %v", got, err)
	}
}

func TestReadOnlyRoot(t *testing.T) {
	s := newSite(t)
	b := s.bundle(sh("echo x > /file; mount -o remount,rw /; echo y > /file; mknod /dev/null2 c 1 3; echo done"), func(spec *specs.Spec) {
		spec.Root.Readonly = true
		// Even root with every capability must not get past the host's side.
		all := []string{"CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_MKNOD"}
		spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: all, Effective: all, Permitted: all}
	})
	o := s.runBundle(b)
	if o.Code != 0 || !strings.Contains(o.Stderr, "Read-only file system") {
		t.Errorf("%v", o)
	}
	if _, err := os.Stat(b.rootfs("file")); err == nil {
		t.Error("the guest wrote to a read-only root")
	}
}

// TestMountpointsInAReadOnlyRoot mounts where nothing is yet: over links of the
// image whose targets are missing, and a tmpfs that everybody may write to.
func TestMountpointsInAReadOnlyRoot(t *testing.T) {
	s := newSite(t)
	host := hostTree(t, map[string]string{"hosts": "text"})
	b := s.bundle(sh("cat /etc/hosts /run/own/hosts; stat -c %a /scratch /tmp; touch /scratch/x"), func(spec *specs.Spec) {
		spec.Root.Readonly = true
		spec.Process.User.UID = 1000
		spec.Mounts = append(spec.Mounts, bind(host+"/hosts", "/etc/hosts"),
			specs.Mount{Type: "tmpfs", Source: "tmpfs", Destination: "/scratch"}, specs.Mount{Type: "tmpfs", Source: "tmpfs", Destination: "/tmp"})
	})
	for link, target := range map[string]string{"etc/hosts": "../jump/hosts", "jump": "/run/own"} {
		if err := os.Symlink(target, b.rootfs(link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(b.rootfs("tmp"), 0o750); err != nil {
		t.Fatal(err)
	}
	if got := s.output(b); got != "texttext1777\n750\n" {
		t.Errorf("%q", got)
	}
}

func TestMounts(t *testing.T) {
	labtest.SameOnBoth(t)
	s := newSite(t)
	host := t.TempDir()
	write := func(name, data string) {
		if err := os.WriteFile(host+"/"+name, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{"rw", "ro"} {
		if err := os.Mkdir(host+"/"+d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write("rw/a", "volume\n")
	write("ro/a", "read-only volume\n")
	write("single", "one file\n")
	write("sibling", "must not be seen\n")
	script := `cat /vol/a /rovol/a /etc/single
echo new > /vol/b
echo no > /rovol/b
echo more >> /etc/single
grep -c sibling -r /etc /vol /rovol | grep -v ':0' ; ls /etc/sibling
for m in /scratch /proc /sys /dev/pts /dev/mqueue /dev/shm; do grep -q " $m " /proc/mounts && echo has $m; done
df -k /scratch | tail -1 | awk '{print "size", $2}'
echo ok`
	b := s.bundle(sh(script), func(spec *specs.Spec) {
		spec.Mounts = append(spec.Mounts,
			specs.Mount{Destination: "/vol", Type: "bind", Source: host + "/rw", Options: []string{"rbind", "rw"}},
			specs.Mount{Destination: "/rovol", Type: "bind", Source: host + "/ro", Options: []string{"rbind", "ro"}},
			specs.Mount{Destination: "/etc/single", Type: "bind", Source: host + "/single", Options: []string{"bind"}},
			specs.Mount{Destination: "/scratch", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "size=4096k"}})
	})
	o := s.runBundle(b)
	want := "volume\nread-only volume\none file\nhas /scratch\nhas /proc\nhas /sys\nhas /dev/pts\nhas /dev/mqueue\nhas /dev/shm\nsize 4096\nok\n"
	if o.Stdout != want {
		t.Errorf("got %v\nwant %s", o, want)
	}
	for name, want := range map[string]string{"rw/b": "new\n", "single": "one file\nmore\n", "ro/b": ""} {
		if got, _ := os.ReadFile(host + "/" + name); string(got) != want {
			t.Errorf("%s holds %q, want %q", name, got, want)
		}
	}
}

func TestOwnersOnTheShareAreTheCallers(t *testing.T) {
	s := newSite(t)
	b := s.bundle(sh("umask 022; mkdir /tmp/d; echo x > /tmp/d/f; ln -s f /tmp/d/l; stat -c '%u:%g %a %F' /tmp/d /tmp/d/f; mkfifo /tmp/d/p"), func(spec *specs.Spec) {
		spec.Process.User = specs.User{UID: 1234, GID: 4321}
	})
	if out := s.output(b); out != "1234:4321 755 directory\n1234:4321 644 regular file\n" {
		t.Errorf("inside: %s", out)
	}
	for _, name := range []string{"d", "d/f", "d/l", "d/p"} {
		var st unix.Stat_t
		if err := unix.Lstat(b.rootfs("tmp/"+name), &st); err != nil || st.Uid != 1234 || st.Gid != 4321 {
			t.Errorf("%s on the host: %d:%d %v", name, st.Uid, st.Gid, err)
		}
	}
}

func TestSharedFilesOfManyShapes(t *testing.T) {
	s := newSite(t)
	script := `set -e
cd /tmp
i=0; while [ $i -lt 200 ]; do echo $i > f$i; i=$((i+1)); done
[ $(ls | wc -l) = 200 ]
mv f1 g1; ln f2 h2; rm f3; ln -s f4 s4
[ "$(cat h2 s4)" = "2
4" ]
dd if=/dev/urandom of=big bs=1M count=20 2>/dev/null
md5sum big > sum; cp big copy; rm big; mv copy big; md5sum -c sum
truncate -s 1G sparse; [ $(stat -c %s sparse) = 1073741824 ]
mkdir -p a/b/c/d; rmdir a/b/c/d; rm -r a
chmod 4755 g1; stat -c %a g1
touch -d '2001-02-03 04:05:06' g1; stat -c %Y g1
find . -name 'f*' | wc -l
dd if=big of=part bs=4k skip=100 count=10 2>/dev/null; stat -c %s part
`
	b := s.bundle(sh(script))
	if out, want := s.output(b), "big: OK\n4755\n981173106\n198\n40960\n"; out != want {
		t.Errorf("got %q, want %q", out, want)
	}
	if st, err := os.Stat(b.rootfs("tmp/g1")); err != nil || st.Mode()&os.ModeSetuid == 0 {
		t.Errorf("g1 on the host: %v %v", st, err)
	}
}

func TestClockIsTheHosts(t *testing.T) {
	s := newSite(t)
	var inside int64
	before := time.Now().Unix()
	out := s.output(s.bundle(sh("date +%s")))
	after := time.Now().Unix()
	if _, err := fmt.Sscan(out, &inside); err != nil || inside < before-1 || inside > after+1 {
		t.Errorf("the guest says %q, the host %d to %d", out, before, after)
	}
}
