package process

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	_ "github.com/microvm/microvm/agent/process/reexec"
	"golang.org/x/sys/unix"
)

// insideEnv says that the test runs as PID 1 of its own namespaces, which is
// what the agent has in its machine.
const insideEnv = "PROCESS_TEST_INSIDE"

func TestMain(m *testing.M) {
	if os.Getenv(insideEnv) == "" && os.Geteuid() == 0 {
		os.Exit(runInside())
	}
	os.Unsetenv(insideEnv)
	if os.Geteuid() == 0 {
		if err := prepare(); err != nil {
			fmt.Fprintln(os.Stderr, "prepare namespaces:", err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func runInside() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID, Pdeathsig: unix.SIGKILL}
	if err := cmd.Run(); cmd.ProcessState == nil {
		fmt.Fprintln(os.Stderr, "run test in namespaces:", err)
		return 1
	}
	return cmd.ProcessState.ExitCode()
}

func prepare() error {
	for _, m := range []struct {
		source, target, fs string
		flags              uintptr
	}{
		{"", "/", "", unix.MS_PRIVATE | unix.MS_REC},
		{"proc", "/proc", "proc", 0},
		{"cgroup2", "/sys/fs/cgroup", "cgroup2", 0},
	} {
		if err := unix.Mount(m.source, m.target, m.fs, m.flags, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	return nil
}

// needRoot skips what no other user can test.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make namespaces")
	}
}
