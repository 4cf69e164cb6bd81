package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/tests/command"
	"github.com/microvm/microvm/tests/lab/labtest"
)

// debian makes a bundle on a Debian root file system (MICROVM_DEBIAN), under
// an overlay that takes the changes.
func (s *site) debian(args []string, change ...func(*specs.Spec)) *bundle {
	s.t.Helper()
	lower := os.Getenv("MICROVM_DEBIAN")
	if lower == "" {
		s.t.Fatal("MICROVM_DEBIAN is not set: run `make test`")
	}
	b := s.bundle(args, change...)
	dir := s.t.TempDir()
	// The overlay's upper layer cannot lie on an overlay, as /tmp may.
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1g"); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { s.unmount(dir) })
	var opts []string
	for _, d := range []string{"upper", "work", "rootfs"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			s.t.Fatal(err)
		}
	}
	opts = append(opts, "lowerdir="+lower, "upperdir="+filepath.Join(dir, "upper"), "workdir="+filepath.Join(dir, "work"))
	rootfs := filepath.Join(dir, "rootfs")
	if err := unix.Mount("overlay", rootfs, "overlay", 0, strings.Join(opts, ",")); err != nil {
		s.t.Fatalf("mount overlay on %s: %v", lower, err)
	}
	s.t.Cleanup(func() { s.unmount(rootfs) })
	b.spec.Root.Path = rootfs
	b.write(s.t)
	return b
}

func (s *site) unmount(path string) {
	command.Eventually(s.t, "unmount "+path, func() bool { return unix.Unmount(path, 0) == nil })
}

// asDocker grants what docker grants by default.
func asDocker(spec *specs.Spec) {
	caps := strings.Fields("CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_FSETID CAP_KILL CAP_SETGID CAP_SETUID CAP_SETPCAP CAP_NET_BIND_SERVICE CAP_NET_RAW CAP_SYS_CHROOT CAP_MKNOD CAP_AUDIT_WRITE CAP_SETFCAP")
	spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
	spec.Process.NoNewPrivileges = false
}

func TestPackageManager(t *testing.T) {
	labtest.SameOnBoth(t)
	s := newSite(t)
	b := s.debian([]string{"/bin/bash", "-c", `set -e
dpkg -i /debs/hello_*.deb >/dev/null
hello
dpkg -s hello | grep ^Status
dpkg -V hello
dpkg -r hello >/dev/null
! test -e /usr/bin/hello`}, asDocker)
	if out, want := s.output(b), "Hello, world!\nStatus: install ok installed\n"; out != want {
		t.Errorf("got %q, want %q", out, want)
	}
}

func TestCompiler(t *testing.T) {
	s := newSite(t)
	b := s.debian([]string{"/bin/bash", "-c", `set -e
mkdir /src; cd /src
printf '#include <stdio.h>\nint answer(void);\nint main(void){printf("%%d\\n", answer());return 0;}\n' > main.c
printf 'int answer(void){return 42;}\n' > answer.c
printf 'prog: main.o answer.o\n\tgcc -o $@ $^\n' > Makefile
make -s
./prog
sleep 1.1; touch answer.c
make | grep -c answer.c
ls`}, asDocker)
	if out, want := s.output(b), "42\n1\nMakefile\nanswer.c\nanswer.o\nmain.c\nmain.o\nprog\n"; out != want {
		t.Errorf("got %q, want %q", out, want)
	}
}

func TestUsersAndArchives(t *testing.T) {
	labtest.SameOnBoth(t)
	s := newSite(t)
	b := s.debian([]string{"/bin/bash", "-c", `set -e
useradd -m alice
su alice -c 'umask 077; cd; echo secret > mine; mkdir d; chmod 1777 d; stat -c "%U %a" mine d'
su nobody -s /bin/sh -c 'cat ~alice/mine' 2>&1 | grep -o 'Permission denied'
tar -C /usr/share/doc -cf /tmp/a.tar apt bash dpkg perl
mkdir /tmp/x; tar -C /tmp/x -xf /tmp/a.tar
for d in apt bash dpkg perl; do diff -r /usr/share/doc/$d /tmp/x/$d; done && echo same
perl -e 'print "perl works\n"'`}, asDocker)
	if out, want := s.output(b), "alice 600\nalice 1777\nPermission denied\nsame\nperl works\n"; out != want {
		t.Errorf("got %q, want %q", out, want)
	}
}
