package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/microvm/microvm/tests/lab/labtest"
)

// refused runs a command that has to fail with want in its message.
func (s *site) refused(t *testing.T, want string, args ...string) {
	t.Helper()
	if o := s.command(args...).Run(); o.Code == 0 || !strings.Contains(o.Stderr, want) {
		t.Errorf("%v: want a refusal with %q, %v", args, want, o)
	}
}

func TestPauseAndResume(t *testing.T) {
	labtest.SameOnBoth(t)
	s := newSite(t)
	id, pid, _ := s.detached(s.bundle(sh("sleep 1000; true")))
	s.waitStatus(id, "running")
	s.refused(t, "container not paused", "resume", id)

	s.command("pause", id).Output()
	s.waitStatus(id, "paused")
	s.refused(t, "container not running", "pause", id)
	s.refused(t, "cannot exec in a paused container", "exec", id, "true")
	s.refused(t, "not stopped: paused", "delete", id)

	s.command("resume", id).Output()
	s.waitStatus(id, "running")
	if o := s.command("exec", id, "echo", "thawed").Run(); o.Stdout != "thawed\n" {
		t.Errorf("exec after resume: %v", o)
	}

	s.command("pause", id).Output()
	s.command("kill", id, "KILL").Output()
	if code := waitPid(t, pid); code != 137 {
		t.Errorf("killed while paused: exit code %d, want 137", code)
	}
	s.waitStatus(id, "stopped")
	s.refused(t, "container not running", "pause", id)
}

// TestPauseThatDied leaves a container that is recorded as paused and runs, which
// resume brings back.
func TestPauseThatDied(t *testing.T) {
	labtest.SameOnBoth(t)
	s := newSite(t)
	id, _, _ := s.detached(s.bundle(sh("sleep 1000; true")))
	file := filepath.Join(s.root, id, "state.json")
	var st map[string]any
	data, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(data, &st)
	}
	if err != nil {
		t.Fatal(err)
	}
	st["pausedFrom"], st["status"] = st["status"], "paused"
	if data, err = json.Marshal(st); err == nil {
		err = os.WriteFile(file, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.waitStatus(id, "paused")
	s.command("resume", id).Output()
	s.waitStatus(id, "running")
	if o := s.command("exec", id, "echo", "here").Run(); o.Stdout != "here\n" {
		t.Errorf("exec: %v", o)
	}
}

func TestPauseBeforeStart(t *testing.T) {
	s := newSite(t)
	b, id := s.bundle(sh("sleep 1000; true")), s.name()
	s.launch(filepath.Join(b.dir, "out"), "create", "--bundle", b.dir, "--pid-file", filepath.Join(b.dir, "pid"), id)
	s.command("pause", id).Output()
	s.refused(t, "cannot start a container in the paused state", "start", id)
	s.command("resume", id).Output()
	s.waitStatus(id, "created")
	s.command("pause", id).Output()
	s.command("delete", "--force", id).Output()
}
