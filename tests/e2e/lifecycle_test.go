package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"
	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/tests/command"
	"github.com/microvm/microvm/tests/lab/labtest"
)

func TestCreateStartStateKillDelete(t *testing.T) {
	s := newSite(t)
	b := s.bundle(sh("echo running; trap 'echo got it; exit 5' TERM; while :; do sleep 0.1; done"))
	b.spec.Annotations = map[string]string{"org.example.key": "value"}
	b.write(t)
	id, stdout, pidFile := s.name(), filepath.Join(b.dir, "stdout"), filepath.Join(b.dir, "pid")
	pid := s.launch(stdout, "create", "--bundle", b.dir, "--pid-file", pidFile, id)

	st := s.state(id)
	if st.ID != id || st.Status != "created" || st.Pid != pid || st.Bundle != b.dir || st.Version == "" || st.Annotations["org.example.key"] != "value" {
		t.Errorf("state after create: %+v, pid file has %d", st, pid)
	}
	if out, _ := os.ReadFile(stdout); len(out) != 0 {
		t.Errorf("the process ran before start: %q", out)
	}
	s.command("start", id).Output()
	s.waitStatus(id, "running")
	command.Eventually(t, "the process runs", func() bool {
		out, _ := os.ReadFile(stdout)
		return string(out) == "running\n"
	})
	if o := s.command("delete", id).Run(); o.Code == 0 || !strings.Contains(o.Stderr, "not stopped") {
		t.Errorf("delete of a running container: %v", o)
	}
	s.command("kill", id, "TERM").Output()
	if code := waitPid(t, pid); code != 5 {
		t.Errorf("exit code of the pid is %d, want 5", code)
	}
	s.waitStatus(id, "stopped")
	if out, _ := os.ReadFile(stdout); string(out) != "running\ngot it\n" {
		t.Errorf("output %q", out)
	}
	if o := s.command("kill", id, "TERM").Run(); o.Code == 0 || !strings.Contains(o.Stderr, "not running") {
		t.Errorf("kill of a stopped container: %v", o)
	}
	s.command("delete", id).Output()
	if o := s.command("state", id).Run(); o.Code != 1 || !strings.Contains(o.Stderr, "does not exist") {
		t.Errorf("state of a deleted container: %v", o)
	}
}

func TestWrongStates(t *testing.T) {
	labtest.SameOnBoth(t)
	s := newSite(t)
	b := s.bundle(sh("sleep 1000"))
	id, _, _ := s.detached(b)
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"start", id}, "cannot start"},
		{[]string{"delete", id}, "not stopped"},
		{[]string{"create", "--bundle", b.dir, id}, "already exists"},
		{[]string{"run", "--bundle", b.dir, id}, "already exists"},
		{[]string{"start", "nobody"}, "does not exist"},
		{[]string{"kill", "nobody"}, "does not exist"},
		{[]string{"delete", "nobody"}, "does not exist"},
		{[]string{"exec", "nobody", "true"}, "does not exist"},
		{[]string{"ps", "nobody"}, "does not exist"},
		{[]string{"kill", id, "NOSUCH"}, "NOSUCH"},
		{[]string{"create", "--bundle", b.dir, "../x"}, "invalid"},
		{[]string{"create", "--bundle", b.dir}, "requires"},
	} {
		o := s.command(c.args...).Run()
		if o.Code == 0 || !strings.Contains(o.Stderr, c.want) {
			t.Errorf("%v: want %q, %v", c.args, c.want, o)
		}
	}
	if st := s.state(id); st.Status != "running" {
		t.Errorf("the container did not survive: %+v", st)
	}
	s.command("delete", "--force", id).Output()
	s.command("delete", "--force", "nobody").Output() // as runc: no error
}

func TestDeleteOfACreatedContainer(t *testing.T) {
	s := newSite(t)
	b := s.bundle(sh("echo never"))
	id, stdout := s.name(), filepath.Join(b.dir, "stdout")
	s.launch(stdout, "create", "--bundle", b.dir, id)
	s.command("delete", "--force", id).Output()
	if out, _ := os.ReadFile(stdout); len(out) != 0 {
		t.Errorf("output %q", out)
	}
}

func TestSignalToThePidReachesTheContainer(t *testing.T) {
	s := newSite(t)
	id, pid, stdout := s.detached(s.bundle(sh("trap 'exit 9' USR1; echo up; while :; do sleep 0.1; done")))
	command.Eventually(t, "the process runs", func() bool {
		out, _ := os.ReadFile(stdout)
		return string(out) == "up\n"
	})
	if err := unix.Kill(pid, unix.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	if code := waitPid(t, pid); code != 9 {
		t.Errorf("exit code %d, want 9", code)
	}
	s.command("delete", id).Output()
}

func TestListAndPs(t *testing.T) {
	labtest.SameOnBoth(t)
	s := newSite(t)
	id, pid, _ := s.detached(s.bundle(sh("sleep 1000; true")))
	var list []struct {
		ID, Status, Bundle string
		Pid                int
	}
	if err := json.Unmarshal([]byte(s.command("list", "--format", "json").Output()), &list); err != nil {
		t.Fatal(err)
	}
	if len(list) != 1 || list[0].ID != id || list[0].Pid != pid || list[0].Status != "running" {
		t.Errorf("list: %+v", list)
	}
	if out := s.command("list", "--quiet").Output(); out != id+"\n" {
		t.Errorf("list --quiet: %q", out)
	}
	if out := s.command("list").Output(); !strings.HasPrefix(out, "ID ") || !strings.Contains(out, id) {
		t.Errorf("list: %s", out)
	}
	command.Eventually(t, "ps shows the child", func() bool {
		out := s.command("ps", id).Output()
		return strings.HasPrefix(out, "UID") && strings.Contains(out, "sleep 1000")
	})
	var pids []int
	if err := json.Unmarshal([]byte(s.command("ps", "--format", "json", id).Output()), &pids); err != nil || len(pids) < 1 {
		t.Errorf("ps --format json: %v %v", pids, err)
	}
	if out := s.command("ps", id, "-o", "comm,args").Output(); !strings.HasPrefix(out, "COMMAND") || !strings.Contains(out, "sleep 1000") {
		t.Errorf("ps with options: %s", out)
	}
	if o := s.command("ps", id, "--no-such-option").Run(); o.Code == 0 || !strings.Contains(o.Stderr, "no-such-option") {
		t.Errorf("ps with a wrong option: %v", o)
	}
}

func TestFeaturesIsJSON(t *testing.T) {
	s := newSite(t)
	var f features.Features
	if err := json.Unmarshal([]byte(s.command("features").Output()), &f); err != nil || f.OCIVersionMax != specs.Version {
		t.Fatalf("%+v %v", f, err)
	}
	// Tools look for these, and there are tests of all of them.
	if len(f.Hooks) != 6 || !*f.Linux.MountExtensions.IDMap.Enabled || !slices.Contains(f.MountOptions, "rro") || len(f.Linux.Seccomp.SupportedFlags) != 3 {
		t.Errorf("%+v", f)
	}
}

func TestCheckSaysWhatIsUsed(t *testing.T) {
	s := newSite(t)
	var c struct {
		Machine string `json:"machine"`
		Reason  string `json:"reason"`
	}
	out := s.command("check", "--json").Output()
	if err := json.Unmarshal([]byte(out), &c); err != nil || c.Machine != machine || c.Reason == "" {
		t.Errorf("%+v %v\n%s", c, err, out)
	}
	if text := s.command("check").Output(); !strings.Contains(text, "/dev/kvm") || !strings.Contains(text, "kernel") {
		t.Errorf("check prints %s", text)
	}
}
