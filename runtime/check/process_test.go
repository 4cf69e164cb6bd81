package check

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestReadProcess reads a process that is not confined, and a child of it that is a
// little.
func TestReadProcess(t *testing.T) {
	child := exec.Command("sleep", "100")
	want := []string{"uts"}
	if os.Geteuid() == 0 {
		child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUTS, Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	} else {
		want = nil
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { child.Process.Kill(); child.Wait() }()
	p, err := ReadProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if p.UID != os.Geteuid() || p.Filtered != 0 || p.Threads == 0 || len(p.Own) > 0 || len(p.Shared) != 7 || len(p.Root) == 0 || len(p.Descriptors) == 0 {
		t.Errorf("%+v", p)
	}
	if i := slices.IndexFunc(p.Children, func(c *Process) bool { return c.PID == child.Process.Pid }); i < 0 {
		t.Errorf("the child is not among %v", p.Children)
	} else if c := p.Children[i]; c.UID == 0 || len(c.Capabilities) > 0 || !slices.Equal(c.Own, want) {
		t.Errorf("%+v", c)
	}
	var text strings.Builder
	if err := p.WriteText(&text); err != nil || !strings.Contains(text.String(), "own namespaces   none\n") {
		t.Errorf("%v\n%s", err, text.String())
	}
	if _, err := ReadProcess(-1); err == nil {
		t.Error("no process was read")
	}
}
