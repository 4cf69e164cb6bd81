package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/microvm/microvm/tests/command"
	"github.com/microvm/microvm/tests/lab/labtest"
)

// hostHook appends a line to the file log: the name, the state's status and
// pid, and the hook's network namespace.
func hostHook(name, log string) specs.Hook {
	script := fmt.Sprintf(`s=$(cat); f() { echo "$s" | sed -n 's/.*"'$1'":"\{0,1\}\([^,"]*\).*/\1/p'; }
		echo %s $(f status) $(f pid) $(readlink /proc/self/ns/net) >> %s`, name, log)
	return specs.Hook{Path: "/bin/sh", Args: []string{"sh", "-c", script}, Env: []string{"PATH=" + os.Getenv("PATH")}}
}

func TestHooksInOrderAndPlace(t *testing.T) {
	labtest.SameOnBoth(t)
	s := newSite(t)
	log := filepath.Join(s.dir, "log")
	b := s.bundle(sh("cat /hook; sleep 1000"))
	b.spec.Hooks = &specs.Hooks{
		//lint:ignore SA1019 docker still writes prestart hooks
		Prestart:        []specs.Hook{hostHook("prestart", log)},
		CreateRuntime:   []specs.Hook{hostHook("createRuntime", log)},
		CreateContainer: []specs.Hook{hostHook("createContainer", log)},
		StartContainer:  []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "cat > /hook; uname -r >> /hook"}}},
		Poststart:       []specs.Hook{hostHook("poststart", log)},
		Poststop:        []specs.Hook{{Path: "/bin/false"}, hostHook("poststop", log)},
	}
	b.write(t)
	id := s.name()
	pid := s.launch(filepath.Join(b.dir, "stdout"), "create", "--bundle", b.dir, "--pid-file", filepath.Join(b.dir, "pid"), id)
	host, err := os.Readlink("/proc/thread-self/ns/net") // the main thread may be in one of a test
	if err != nil {
		t.Fatal(err)
	}
	own, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil || own == host {
		t.Errorf("the pid's network namespace is %s, the host's %s: %v", own, host, err)
	}
	want := fmt.Sprintf("prestart creating %d %s\ncreateRuntime creating %[1]d %[2]s\ncreateContainer creating %[1]d %[3]s\n", pid, host, own)
	if got := read(t, log); got != want {
		t.Errorf("after create:\n%swant\n%s", got, want)
	}
	os.Remove(log)
	s.command("start", id).Output()
	if got, want := read(t, log), fmt.Sprintf("poststart running %d %s\n", pid, host); got != want {
		t.Errorf("after start:\n%swant\n%s", got, want)
	}
	command.Eventually(t, "the hook's file is shown", func() bool { return strings.Contains(read(t, filepath.Join(b.dir, "stdout")), "microvm") })
	var st specs.State
	if err := json.NewDecoder(strings.NewReader(read(t, b.rootfs("hook")))).Decode(&st); err != nil || st.ID != id || st.Bundle != b.dir {
		t.Errorf("state in the container: %+v, %v", st, err)
	}
	os.Remove(log)
	s.command("delete", "--force", id).Output()
	if got, want := read(t, log), "poststop stopped "+host+"\n"; got != want {
		t.Errorf("after delete:\n%swant\n%s", got, want)
	}
	waitPid(t, pid)
}

func TestHookThatFailsEndsCreate(t *testing.T) {
	s := newSite(t)
	log := filepath.Join(s.dir, "log")
	b := s.bundle(sh("echo ran"))
	b.spec.Hooks = &specs.Hooks{
		CreateRuntime: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "echo no way >&2; exit 3"}}},
		Poststop:      []specs.Hook{hostHook("poststop", log)},
	}
	b.write(t)
	o := s.runBundle(b)
	if o.Code == 0 || o.Stdout != "" || !strings.Contains(o.Stderr, "error running createRuntime hook #0") || !strings.Contains(o.Stderr, "no way") {
		t.Error(o)
	}
	if got := read(t, log); !strings.HasPrefix(got, "poststop stopped") {
		t.Errorf("poststop: %q", got)
	}
}

// A container whose poststart hook fails is stopped (runtime-spec, Lifecycle, 9).
func TestPoststartHookThatFailsStopsTheContainer(t *testing.T) {
	labtest.SameOnBoth(t)
	s := newSite(t)
	log := filepath.Join(s.dir, "log")
	b := s.bundle(sh("sleep 1000"))
	b.spec.Hooks = &specs.Hooks{
		Poststart: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "echo no way >&2; exit 3"}}, hostHook("never", log)},
		Poststop:  []specs.Hook{hostHook("poststop", log)},
	}
	b.write(t)
	refused := func(o command.Outcome) {
		t.Helper()
		if o.Code != 1 || !strings.Contains(o.Stderr, "error running poststart hook #0") || !strings.Contains(o.Stderr, "no way") {
			t.Error(o)
		}
	}
	id := s.name()
	pid := s.launch(filepath.Join(b.dir, "stdout"), "create", "--bundle", b.dir, "--pid-file", filepath.Join(b.dir, "pid"), id)
	refused(s.command("start", id).Run())
	if st := s.state(id); st.Status != specs.StateStopped {
		t.Errorf("after start: %s", st.Status)
	}
	if code := waitPid(t, pid); code != 137 {
		t.Errorf("exit code %d", code)
	}
	s.command("delete", id).Output()
	refused(s.runBundle(b))
	refused(s.command("run", "--detach", "--bundle", b.dir, s.name()).Run())
	if got := strings.Count(read(t, log), "poststop stopped"); got != 3 || strings.Contains(read(t, log), "never") {
		t.Errorf("hooks: %s", read(t, log))
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
