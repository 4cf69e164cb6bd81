package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/microvm/microvm/runtime/check"
	"github.com/microvm/microvm/tests/lab/labtest"
)

// descriptors are what a VM process may have open apart from its exports, by
// machine.
var descriptors = map[string][]string{
	"": {
		`/dev/null`, `anon_inode:\[(eventfd|eventpoll)\]`, `socket:\[\d+\]`, `pipe:\[\d+\]`,
		`/\d+/fd`,      // the file server's own /proc
		`/dev/net/tun`, // the guest's network devices
	},
	"kvm":      {`/dev/kvm`, `anon_inode:kvm-(vm|vcpu:\d+)`, `/memfd:guest-memory \(deleted\)`, `.*\(deleted\)`},
	"software": {`/memfd:.* \(deleted\)`, `anon_inode:\[pidfd\]`},
}

// child is what QEMU may have open.
var child = []string{
	`/null`, `anon_inode:\[(eventfd|eventpoll|signalfd)\]`, `socket:\[\d+\]`, `pipe:\[\d+\]`, `/memfd:.* \(deleted\)`,
	`.*/vmlinux`, `.*/initramfs\.cpio`,
}

// kept are the capabilities of a VM process of root, see package jail.
var kept = []string{"chown", "dac_override", "fowner", "fsetid", "setgid", "setuid", "setfcap"}

// TestJail reads back how a running machine is confined.
func TestJail(t *testing.T) {
	s := newSite(t)
	volume := filepath.Join(t.TempDir(), "volume")
	if err := os.Mkdir(volume, 0o755); err != nil {
		t.Fatal(err)
	}
	b := s.bundle(sh("echo x > /volume/file; chown 12:34 /volume/file; sleep 1000"), func(spec *specs.Spec) {
		spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/volume", Type: "bind", Source: volume, Options: []string{"rbind"}})
	}, inHosts)
	id, _, _ := s.detached(b)
	s.waitStatus(id, "running")
	out := s.command("check", "--sandbox", id, "--json").Output()
	var p check.Process
	if err := json.Unmarshal([]byte(out), &p); err != nil {
		t.Fatal(err)
	}
	caps := kept
	if machine == "software" {
		caps = append(slices.Clone(kept), "kill")
	}
	slices.Sort(caps)
	slices.Sort(p.Capabilities)
	if !slices.Equal(p.Capabilities, caps) {
		t.Errorf("capabilities %v, want %v", p.Capabilities, caps)
	}
	wantWalls(t, &p)
	wantDescriptors(t, &p, append(slices.Clone(descriptors[""]), descriptors[machine]...), b.rootfs(""), volume)
	for _, q := range p.Children {
		wantWalls(t, q)
		wantDescriptors(t, q, child)
		if q.UID == 0 || len(q.Capabilities) > 0 {
			t.Errorf("%s is user %d with capabilities %v", q.Name, q.UID, q.Capabilities)
		}
	}
	if want := map[string]int{"kvm": 0, "software": 1}[machine]; len(p.Children) != want {
		t.Errorf("%d children, want %d", len(p.Children), want)
	}
	if n := p.Network; n == nil || n.UID != 65534 || len(n.Capabilities) > 0 || !n.NoNewPrivileges || n.Filtered != n.Threads || !slices.Contains(n.Own, "pid") {
		t.Errorf("the network's process: %+v", n)
	}
	// It may have more threads by now.
	text := s.command("check", "--sandbox", id).Output()
	if threads := regexp.MustCompile(`(?m)^filter +on (\d+) of (\d+) threads$`).FindStringSubmatch(text); threads == nil || threads[1] != threads[2] {
		t.Errorf("as text:\n%s", text)
	}
}

func wantWalls(t *testing.T, p *check.Process) {
	t.Helper()
	if !p.NoNewPrivileges || p.Filtered != p.Threads || p.Threads == 0 {
		t.Errorf("%s: no_new_privs %v, filter on %d of %d threads", p.Name, p.NoNewPrivileges, p.Filtered, p.Threads)
	}
	if want := []string{"ipc", "mnt", "net", "pid", "uts"}; !slices.Equal(p.Own, want) {
		t.Errorf("%s: namespaces of its own: %v, want %v", p.Name, p.Own, want)
	}
	if len(p.Root) > 0 {
		t.Errorf("%s sees in its root: %v", p.Name, p.Root)
	}
}

// wantDescriptors checks that all of p's are allowed or of files in exports, whose
// paths are those in mounts of their own.
func wantDescriptors(t *testing.T, p *check.Process, allowed []string, exports ...string) {
	t.Helper()
	expected := regexp.MustCompile("^(" + strings.Join(allowed, "|") + ")$")
	for fd, link := range p.Descriptors {
		if !expected.MatchString(link) && !slices.ContainsFunc(exports, func(dir string) bool { return isIn(dir, p.PID, fd, link) }) {
			t.Errorf("%s: descriptor %d is %s", p.Name, fd, link)
		}
	}
}

// isIn tells whether a descriptor that is shown as link leads to that file in dir,
// or was closed meanwhile.
func isIn(dir string, pid, fd int, link string) bool {
	info, err := os.Stat(fmt.Sprintf("/proc/%d/fd/%d", pid, fd))
	if err != nil {
		return os.IsNotExist(err)
	}
	there, err := os.Lstat(filepath.Join(dir, link))
	return err == nil && os.SameFile(info, there)
}

// TestMoreInodesThanDescriptors lists more files than the VM process may have
// descriptors, if it may not raise their number.
func TestMoreInodesThanDescriptors(t *testing.T) {
	labtest.SameOnBoth(t)
	prlimit, err := exec.LookPath("prlimit")
	if err != nil {
		t.Skipf("needs util-linux: %v", err)
	}
	const files = 4000
	volume := t.TempDir()
	for i := range files {
		if err := os.WriteFile(filepath.Join(volume, fmt.Sprint(i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := newSite(t)
	b := s.bundle(sh("ls -l /volume | grep -c root && ls -l /volume | grep -c root"), func(spec *specs.Spec) {
		spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/volume", Type: "bind", Source: volume, Options: []string{"rbind"}})
	})
	cmd := s.command("run", "--bundle", b.dir, s.name()).Exec(t.Context())
	cmd.Args = append([]string{prlimit, "--nofile=3000:3000"}, cmd.Args...)
	cmd.Path = prlimit
	out, err := cmd.CombinedOutput()
	if want := fmt.Sprintf("%d\n%d\n", files, files); err != nil || string(out) != want {
		t.Errorf("%v, %.1000s", err, out)
	}
}
