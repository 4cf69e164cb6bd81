package qemu

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// parentVariable makes TestParent the parent that TestQEMUDiesWithItsParent
// kills.
const parentVariable = "MICROVM_TEST_PARENT"

func TestParent(t *testing.T) {
	if os.Getenv(parentVariable) == "" {
		return // not a test of its own
	}
	cfg, out := config(t, "idle")
	m := start(t, cfg)
	if os.Getenv(parentVariable) == "late" {
		out.waitFor(t, "guest is idle")
	}
	fmt.Printf("child %d\n", m.PID())
	m.Wait()
}

func TestQEMUDiesWithItsParent(t *testing.T) {
	kernel(t)
	for _, when := range []string{"early", "late"} {
		t.Run(when, func(t *testing.T) {
			parent := exec.Command(os.Args[0], "-test.run=^TestParent$")
			parent.Env = append(os.Environ(), parentVariable+"="+when)
			out, err := parent.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := parent.Start(); err != nil {
				t.Fatal(err)
			}
			child := childOf(bufio.NewScanner(out))
			if err := parent.Process.Kill(); err != nil {
				t.Error(err)
			}
			_ = parent.Wait()
			if child == 0 {
				t.Fatal("the parent started no QEMU")
			}
			waitGone(t, child)
		})
	}
}

func childOf(lines *bufio.Scanner) (pid int) {
	for lines.Scan() {
		if s, ok := strings.CutPrefix(lines.Text(), "child "); ok {
			pid, _ = strconv.Atoi(s)
			return pid
		}
	}
	return 0
}

func waitGone(t *testing.T, pid int) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if errors.Is(err, os.ErrNotExist) || strings.Contains(string(stat), ") Z ") {
			return // a zombie waits for whoever adopted it
		}
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
	t.Errorf("QEMU %d outlived its parent", pid)
}
