package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// TestStateOfAUserIsInItsRuntimeDirectory calls the command as nobody.
func TestStateOfAUserIsInItsRuntimeDirectory(t *testing.T) {
	const nobody = 65534
	dir, err := os.MkdirTemp("", "e2e-user-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	program, own := filepath.Join(dir, "microvm-runtime"), filepath.Join(dir, "run")
	data, err := os.ReadFile(filepath.Join(binDir, "microvm-runtime"))
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []func() error{
		func() error { return os.Chmod(dir, 0o755) },
		func() error { return os.WriteFile(program, data, 0o755) },
		func() error { return os.Mkdir(own, 0o700) },
		func() error { return os.Chown(own, nobody, nobody) },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	list := func(runtimeDir string) ([]byte, error) {
		cmd := exec.Command(program, "list", "--quiet")
		cmd.Dir, cmd.Env = "/", []string{"XDG_RUNTIME_DIR=" + runtimeDir}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		return cmd.CombinedOutput()
	}
	if out, err := list(own); err != nil || len(out) != 0 {
		t.Errorf("%v: %s", err, out)
	}
	st, err := os.Stat(filepath.Join(own, "microvm"))
	if err != nil || st.Mode() != os.ModeDir|os.ModeSticky|0o700 {
		t.Errorf("%v %v", st, err)
	}
	if out, err := list("/proc/nothing"); err == nil {
		t.Errorf("no place for state is no error: %s", out)
	}
}
