package e2e

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/microvm/microvm/tests/command"
	"github.com/microvm/microvm/tests/inventory"
)

// Secrets of a container: in its environment, in a file of it, and in the environment
// of an exec.
const (
	environmentSecret = "hush-ecfc8a1d"
	fileSecret        = "hush-70b1c26e"
	execSecret        = "hush-5d9e4f03"
)

// TestSecretsReachNoLog has the most talkative logs of a container that knows secrets,
// runs programs, panics and is deleted, and looks for the secrets in them, in what is
// kept of the container and in what anybody can see of its processes.
func TestSecretsReachNoLog(t *testing.T) {
	s := newSite(t)
	log := filepath.Join(t.TempDir(), "log")
	config := configured(t, "debug = true\n")
	call := func(args ...string) *command.Command {
		return s.command(append([]string{"--debug", "--log", log, "--config", config}, args...)...)
	}
	b := s.bundle(sh("cat /secret >/dev/null; touch /up; sleep 1000"), privileged, func(spec *specs.Spec) {
		spec.Process.Env = append(spec.Process.Env, "PASSWORD="+environmentSecret)
	})
	if err := os.WriteFile(b.rootfs("secret"), []byte(fileSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	id := s.name()
	s.launchWith(call("run", "--detach", "--bundle", b.dir, id), filepath.Join(b.dir, "stdout"))
	command.Eventually(t, "the container is up", func() bool { _, err := os.Stat(b.rootfs("up")); return err == nil })
	if said := call("exec", "--env", "TOKEN="+execSecret, id, "sh", "-c", "echo $PASSWORD $TOKEN; cat /secret").Output(); said != environmentSecret+" "+execSecret+"\n"+fileSecret+"\n" {
		t.Errorf("inside: %q", said)
	}
	checkPrivate(t, s.root)
	checkSecrets(t, s.root)
	for _, pid := range inventory.Descendants("") {
		checkSecrets(t, fmt.Sprintf("/proc/%d/cmdline", pid))
	}
	_ = call("exec", id, "sh", "-c", "echo c >/proc/sysrq-trigger").Run() // the machine is gone
	s.waitStatus(id, "stopped")
	call("delete", id).Output()
	checkSecrets(t, log)
	if said, err := os.ReadFile(log); err != nil || !strings.Contains(string(said), "level=debug") || !strings.Contains(string(said), "Kernel panic") {
		t.Errorf("the log is not talkative: %v: %s", err, said)
	}
}

// checkSecrets looks for them in a file, or in all below a directory.
func checkSecrets(t *testing.T, path string) {
	t.Helper()
	err := filepath.WalkDir(path, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		for _, secret := range []string{environmentSecret, fileSecret, execSecret} {
			if strings.Contains(string(data), secret) {
				t.Errorf("%s has %s", path, secret)
			}
		}
		return err
	})
	if err != nil && !strings.HasPrefix(path, "/proc/") { // a process may be gone
		t.Error(err)
	}
}

// checkPrivate wants directories of mode 0700 and files and sockets that nobody else
// can open.
func checkPrivate(t *testing.T, dir string) {
	t.Helper()
	entries := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		entries++
		info, err := d.Info()
		if err == nil && (d.IsDir() && info.Mode().Perm() != 0o700 || info.Mode().IsRegular() && info.Mode().Perm() != 0o600) {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil || entries < 4 { // root, container, lock, state
		t.Errorf("%d entries, %v", entries, err)
	}
}
