package e2e

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// user is somebody without any rights, who has the binaries and a runtime
// directory in a place of its own.
type user struct {
	t            *testing.T
	dir, runtime string
}

const nobody = 65534

func newUser(t *testing.T) *user {
	t.Helper()
	dir, err := os.MkdirTemp("", "e2e-user-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	u := &user{t: t, dir: dir, runtime: filepath.Join(dir, "run")}
	for _, name := range []string{"microvm-runtime", "microvm-vmm", "microvm-network", "vmlinux", "initramfs.cpio"} {
		data, err := os.ReadFile(filepath.Join(binDir, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), data, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Chmod(dir, 0o755), os.Mkdir(u.runtime, 0o700), os.Chown(u.runtime, nobody, nobody)); err != nil {
		t.Fatal(err)
	}
	return u
}

// call runs the command as the user.
func (u *user) call(runtimeDir string, args ...string) (string, error) {
	cmd := exec.Command(filepath.Join(u.dir, "microvm-runtime"), append([]string{"--machine", machine}, args...)...)
	cmd.Dir, cmd.Env = "/", []string{"XDG_RUNTIME_DIR=" + runtimeDir, "PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestStateOfAUserIsInItsRuntimeDirectory(t *testing.T) {
	u := newUser(t)
	if out, err := u.call(u.runtime, "list", "--quiet"); err != nil || out != "" {
		t.Errorf("%v: %s", err, out)
	}
	st, err := os.Stat(filepath.Join(u.runtime, "microvm"))
	if err != nil || st.Mode() != os.ModeDir|os.ModeSticky|0o700 {
		t.Errorf("%v %v", st, err)
	}
	if out, err := u.call("/proc/nothing", "list", "--quiet"); err == nil {
		t.Errorf("no place for state is no error: %s", out)
	}
}

// TestContainerOfAUser runs a container without any rights on the host, whose
// root is the user and whose network is of user mode.
func TestContainerOfAUser(t *testing.T) {
	if machine == "kvm" {
		t.Skip("needs a /dev/kvm that everybody may use")
	}
	u := newUser(t)
	bundle := filepath.Join(u.dir, "bundle")
	if out, err := exec.Command("sh", "-c", "mkdir $0 && cp -a $1 $0/rootfs && chown -R 65534:65534 $0", bundle, template).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := u.call(u.runtime, "spec", "--rootless", "--bundle", bundle); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b := &bundleFile{path: filepath.Join(bundle, "config.json")}
	b.change(t, func(spec *specs.Spec) {
		spec.Process.Terminal, spec.Root.Readonly = false, false
		spec.Process.Args = sh("id -u; echo text > /file; nslookup -type=a localhost. 192.168.127.1 | grep -q -e NXDOMAIN -e ^Name: && echo named")
	})
	if out, err := u.call(u.runtime, "run", "--bundle", bundle, "mine"); err != nil || out != "0\nnamed\n" {
		t.Errorf("%v: %s", err, out)
	}
	st, err := os.Stat(filepath.Join(bundle, "rootfs/file"))
	if err != nil || st.Sys().(*syscall.Stat_t).Uid != nobody {
		t.Errorf("%v %v", st, err)
	}
	// What is asked for and cannot be given is told.
	b.change(t, func(spec *specs.Spec) { spec.Linux.CgroupsPath = "/e2e-user" })
	if out, err := u.call(u.runtime, "run", "--bundle", bundle, "mine"); err != nil || strings.Count(out, "level=warning") != 1 || !strings.Contains(out, "is not limited on the host") {
		t.Errorf("%v: %s", err, out)
	}
	if left, err := os.ReadDir(filepath.Join(u.runtime, "microvm")); err != nil || len(left) != 0 {
		t.Errorf("left: %v %v", left, err)
	}
}

// bundleFile is a config.json.
type bundleFile struct{ path string }

func (b *bundleFile) change(t *testing.T, change func(*specs.Spec)) {
	t.Helper()
	data, err := os.ReadFile(b.path)
	if err != nil {
		t.Fatal(err)
	}
	var spec specs.Spec
	if err := json.Unmarshal(data, &spec); err != nil {
		t.Fatal(err)
	}
	change(&spec)
	if data, err = json.Marshal(&spec); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(b.path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}
