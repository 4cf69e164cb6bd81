package shim

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/microvm/microvm/runtime/check"
	"github.com/microvm/microvm/tests/command"
)

// TestJail reads back how a task's VM process is confined, which is the task's to
// the rest of the host.
func TestJail(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		pid, _ := s.task(s.detached("--", "sleep", "1000"))
		out := command.New(t, filepath.Join(binDir, "microvm-runtime"), "check", "--json", "--pid", strconv.Itoa(pid)).Output()
		var p check.Process
		if err := json.Unmarshal([]byte(out), &p); err != nil {
			t.Fatal(err)
		}
		for _, p := range append(p.Children, &p) {
			if !p.NoNewPrivileges || p.Threads == 0 || p.Filtered != p.Threads || len(p.Root) > 0 || slices.Contains(p.Capabilities, "sys_admin") {
				t.Errorf("%+v", p)
			}
			for _, kind := range []string{"mnt", "pid", "ipc", "uts"} {
				if !slices.Contains(p.Own, kind) {
					t.Errorf("%s shares the host's %s namespace", p.Name, kind)
				}
			}
		}
		if want := map[string]int{"kvm": 0, "software": 1}[machine]; len(p.Children) != want {
			t.Errorf("%d children, want %d", len(p.Children), want)
		}
	})
}
