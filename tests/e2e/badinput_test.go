package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/tests/lab/labtest"
)

func TestBadBundles(t *testing.T) {
	s := newSite(t)
	empty := t.TempDir()
	broken := s.bundle(sh("true"))
	if err := os.WriteFile(filepath.Join(broken.dir, "config.json"), []byte(`{"ociVersion": "1.0.2", "process": {`), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		dir, want string
	}{
		"no bundle":      {"/no/such/bundle", "/no/such/bundle"},
		"no config":      {empty, "config.json"},
		"broken JSON":    {broken.dir, "config.json"},
		"no process":     {s.bundle(nil, func(spec *specs.Spec) { spec.Process = nil; spec.Process = &specs.Process{Cwd: "/"} }).dir, "args"},
		"relative cwd":   {s.bundle(sh("true"), func(spec *specs.Spec) { spec.Process.Cwd = "tmp" }).dir, "cwd"},
		"no root":        {s.bundle(sh("true"), func(spec *specs.Spec) { spec.Root.Path = "nothing" }).dir, "nothing"},
		"version":        {s.bundle(sh("true"), func(spec *specs.Spec) { spec.Version = "9.0.0" }).dir, "ociVersion"},
		"missing volume": {s.bundle(sh("true"), withMount("/no/such/source")).dir, "/no/such/source"},
		"host's device":  {s.bundle(sh("true"), func(spec *specs.Spec) { spec.Linux.Devices = []specs.LinuxDevice{hostDevice(t)} }).dir, "is a device of the host"},
		"unknown rlimit": {s.bundle(sh("true"), func(spec *specs.Spec) { spec.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NONE"}} }).dir, "RLIMIT_NONE"},
		"cache":          {s.bundle(sh("true"), annotated("io.microvm.cache", "data=always")).dir, "no absolute path"},
		"memory too small": {s.bundle(sh("true"), func(spec *specs.Spec) {
			spec.Annotations = map[string]string{"io.microvm.memory": "8"}
		}).dir, "MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			o := s.command("run", "--bundle", c.dir, s.name()).Run()
			if o.Code == 0 || !strings.Contains(o.Stderr, c.want) {
				t.Errorf("want %q, %v", c.want, o)
			}
		})
	}
}

func withMount(source string) func(*specs.Spec) {
	return func(spec *specs.Spec) {
		spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/vol", Type: "bind", Source: source, Options: []string{"bind"}})
	}
}

func TestProgramsThatCannotRun(t *testing.T) {
	labtest.SameOnBoth(t)
	s := newSite(t)
	for _, c := range []struct {
		args []string
		want string
		code int
	}{
		{[]string{"missing-program"}, `exec: \"missing-program\": executable file not found in $PATH`, 127},
		{[]string{"/no/such/file"}, "no such file or directory", 127},
		{[]string{"/etc/passwd"}, "permission denied", 126},
	} {
		b := s.bundle(c.args)
		if o := s.runBundle(b); o.Code != c.code || !strings.Contains(o.Stderr, c.want) {
			t.Errorf("%v: want code %d and %q, %v", c.args, c.code, c.want, o)
		}
	}
}

// configured writes a configuration file and returns its path.
func configured(t *testing.T, toml string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(path, []byte(toml), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestBadConfigurations(t *testing.T) {
	s := newSite(t)
	text := filepath.Join(t.TempDir(), "not-a-kernel")
	if err := os.WriteFile(text, []byte("this is no kernel\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	b := s.bundle(sh("true"))
	for name, c := range map[string]struct{ toml, want string }{
		"kernel missing":  {`kernel = "/no/such/vmlinux"`, "/no/such/vmlinux"},
		"kernel is text":  {`kernel = "` + text + `"`, "kernel"},
		"initramfs":       {`initramfs = "/no/such/initramfs"`, "/no/such/initramfs"},
		"unknown key":     {`kernle = "x"`, "kernle"},
		"broken TOML":     {`kernel = `, "config.toml"},
		"unknown machine": {`machine = "xen"`, "xen"},
	} {
		t.Run(name, func(t *testing.T) {
			args := []string{"--config", configured(t, c.toml), "run", "--bundle", b.dir, s.name()}
			cmd := s.command(args...)
			if name == "unknown machine" {
				cmd = s.unspecified(args...)
			}
			if o := cmd.Run(); o.Code == 0 || !strings.Contains(o.Stderr, c.want) {
				t.Errorf("want %q, %v", c.want, o)
			}
		})
	}
}

func TestFullDisk(t *testing.T) {
	s := newSite(t)
	small := t.TempDir()
	if err := unix.Mount("tmpfs", small, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Unmount(small, 0); err != nil {
			t.Error(err)
		}
	}()
	b := s.bundle(sh("dd if=/dev/zero of=/vol/f bs=64k count=64; echo code $?"), withMount(small))
	o := s.runBundle(b)
	if o.Code != 0 || !strings.Contains(o.Stderr, "No space left on device") || o.Stdout != "code 1\n" {
		t.Errorf("a full volume: %v", o)
	}
	// The state directory's own disk is full.
	if out, err := exec.Command("dd", "if=/dev/zero", "of="+small+"/g", "bs=64k").CombinedOutput(); err == nil {
		t.Fatalf("the disk is not full: %s", out)
	}
	full := &site{t: t, dir: s.dir, root: small + "/state"}
	if o := full.runBundle(s.bundle(sh("true"))); o.Code == 0 || !strings.Contains(o.Stderr, "no space left on device") {
		t.Errorf("state on a full disk: %v", o)
	}
}

func TestExportThatVanishes(t *testing.T) {
	s := newSite(t)
	host := filepath.Join(t.TempDir(), "gone")
	if err := os.Mkdir(host, 0o755); err != nil {
		t.Fatal(err)
	}
	b := s.bundle(sh("ls /vol; read go; ls /vol; touch /vol/f; echo alive"), withMount(host))
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer w.Close()
		if err := os.Remove(host); err != nil {
			t.Error(err)
		}
		if _, err := w.WriteString("go\n"); err != nil {
			t.Error(err)
		}
	}()
	o := s.command("run", "--bundle", b.dir, s.name()).Input(r).Run()
	if o.Code != 0 && !strings.Contains(o.Stderr, host) {
		t.Errorf("%v", o)
	}
	if o.Code == 0 && !strings.HasSuffix(o.Stdout, "alive\n") {
		t.Errorf("%v", o)
	}
}
