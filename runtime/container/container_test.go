package container

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/microvm/microvm/runtime/bundle"
	"github.com/microvm/microvm/runtime/config"
	"github.com/microvm/microvm/runtime/state"
)

// sleeper starts something that waits for its end.
func sleeper(t *testing.T) state.Process {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var reaped sync.WaitGroup
	reaped.Go(func() { _ = cmd.Wait() })
	t.Cleanup(func() { _ = cmd.Process.Kill(); reaped.Wait() })
	p, err := state.NewProcess(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func newEngine(t *testing.T) *Engine {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	return &Engine{Store: state.Store{Root: t.TempDir()}, Log: logrus.NewEntry(log)}
}

func (e *Engine) put(t *testing.T, s state.State) {
	t.Helper()
	d, err := e.Store.Create(&s)
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
}

func TestLegalTransitions(t *testing.T) {
	alive := sleeper(t)
	refusals := map[specs.ContainerState]map[verb]string{
		specs.StateCreating: {verbStart: "cannot start a container in the creating state", verbKill: "container not running", verbExec: "cannot exec in a creating container", verbDelete: "that is not stopped: creating", verbPause: "container not running", verbResume: "container not paused", verbUpdate: "container not running", verbEvents: "container with id c is not running"},
		specs.StateCreated:  {verbResume: "container not paused"},
		specs.StateRunning:  {verbStart: "cannot start an already running container", verbDelete: "cannot delete container c that is not stopped: running", verbResume: "container not paused"},
		state.StatusPaused:  {verbStart: "cannot start a container in the paused state", verbExec: "cannot exec in a paused container", verbDelete: "that is not stopped: paused", verbPause: "container not running"},
		specs.StateStopped:  {verbStart: "cannot start a container that has stopped", verbKill: "container not running", verbExec: "cannot exec in a stopped container", verbPause: "container not running", verbResume: "container not paused", verbUpdate: "container not running", verbEvents: "container with id c is not running"},
	}
	for status, want := range refusals {
		for v := range transitions {
			err := allow(v, &state.State{ID: "c", Status: status, Monitor: alive})
			switch {
			case want[v] == "" && err != nil:
				t.Errorf("%s a %s container: %v", v, status, err)
			case want[v] != "" && (!errors.Is(err, ErrState) || !strings.Contains(err.Error(), want[v])):
				t.Errorf("%s a %s container: %v, want %q", v, status, err, want[v])
			}
		}
	}
	// Whatever was recorded, without a monitor it has stopped.
	if err := allow(verbStart, &state.State{Status: specs.StateCreated}); err == nil || !strings.Contains(err.Error(), "stopped") {
		t.Error(err)
	}
}

func TestSizes(t *testing.T) {
	const gib = 1024
	host := host{memory: 8 * gib, cpus: 4}
	for _, c := range []struct {
		annotated, configured config.Config
		want                  bundle.Size
		memory                uint64
		cpus                  int
	}{
		{memory: 512, cpus: 1},
		{configured: config.Config{Memory: 300, CPUs: 2}, memory: 300, cpus: 2},
		{want: bundle.Size{Memory: 64 << 20, MilliCPUs: 3000}, memory: 64 + 128 + 4, cpus: 3},
		{configured: config.Config{Memory: 300, CPUs: 2}, want: bundle.Size{Memory: 1 << 30}, memory: 1024 + 128 + 64, cpus: 2},
		{want: bundle.Size{Memory: minLimit + 1}, memory: 4 + 128, cpus: 1},
		{annotated: config.Config{Memory: 256, CPUs: 1}, want: bundle.Size{Memory: 1 << 30, MilliCPUs: 3000}, memory: 256, cpus: 1},
		{want: bundle.Size{Memory: 1 << 62, MilliCPUs: 99000}, memory: 8 * gib, cpus: 4},
	} {
		memory, cpus, err := sizes(c.annotated, c.configured, c.want, host)
		if memory != c.memory || cpus != c.cpus || err != nil {
			t.Errorf("%+v: %d MiB, %d CPUs, %v", c, memory, cpus, err)
		}
	}
	if most := mostOf(guestMemory(32<<20) << 20); most < (32+growth-8)<<20 || most >= (32+growth)<<20 {
		t.Errorf("a limit of 32 MiB can be raised to %d", most)
	}
	_, _, err := sizes(config.Config{Memory: 512}, config.Config{}, bundle.Size{Memory: minLimit - 1}, host)
	for _, part := range []string{"linux.resources.memory.limit", "3145727 bytes", "3145728 (3 MiB)", "raise the limit"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%v does not say %q", err, part)
		}
	}
}

func TestAgentErrors(t *testing.T) {
	for _, c := range []struct {
		code  codes.Code
		text  string
		class error
	}{
		{codes.Unknown, `unable to start container process: exec: "foo": executable file not found in $PATH`, ErrProgramMissing},
		{codes.Unknown, `unable to start container process: error during container init: exec: "/foo": stat /foo: no such file or directory`, ErrProgramMissing},
		{codes.Unknown, `unable to start container process: exec: "/etc": is a directory`, ErrProgramDenied},
		{codes.Unknown, `exec: "/etc/passwd": permission denied`, ErrProgramDenied},
		{codes.Unknown, `exec /bin/x: exec format error`, ErrProgramDenied},
		{codes.NotFound, "container does not exist: x", state.ErrNotExist},
		{codes.AlreadyExists, "exists", state.ErrExists},
		{codes.FailedPrecondition, "cannot exec", ErrState},
	} {
		err := agentError(status.Error(c.code, c.text))
		if !errors.Is(err, c.class) || err.Error() != c.text {
			t.Errorf("%s: %v", c.text, err)
		}
	}
	plain := agentError(status.Error(codes.Unknown, "open /x: no such file or directory"))
	if errors.Is(plain, ErrProgramMissing) || agentError(nil) != nil {
		t.Error(plain)
	}
}

func TestReportsKeepClassAndText(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cause := fmt.Errorf("create: %w", inClass(errors.New("no program"), ErrProgramMissing))
	if err := sendReport(w, cause); err != nil {
		t.Fatal(err)
	}
	if err := readReport(r); !errors.Is(err, ErrProgramMissing) || errors.Is(err, ErrState) || err.Error() != cause.Error() {
		t.Error(err)
	}
	if err := readReport(strings.NewReader("")); !errors.Is(err, errNoReport) {
		t.Error(err)
	}
	if err := newReport(nil).err(); err != nil {
		t.Error(err)
	}
}

func TestReportFailsWhenNobodyWaits(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	if err := sendReport(w, nil); !errors.Is(err, unix.EPIPE) {
		t.Error(err)
	}
}

func TestMonitorThatDiesIsReported(t *testing.T) {
	e := newEngine(t)
	e.Monitor = []string{"sh", "-c", "exit 3"}
	if err := e.Create(t.Context(), CreateRequest{ID: "a"}); !errors.Is(err, errNoReport) || !strings.Contains(err.Error(), "exit status 3") {
		t.Error(err)
	}
	e.Monitor = []string{"sh", "-c", `echo '{"error":"told you"}' >&4; exit 1`}
	if err := e.Create(t.Context(), CreateRequest{ID: "a"}); err == nil || err.Error() != "told you" {
		t.Error(err)
	}
	e.Monitor = []string{"/no/such/program"}
	if err := e.Create(t.Context(), CreateRequest{ID: "a"}); err == nil {
		t.Error("started nothing")
	}
}

func TestMountpoints(t *testing.T) {
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	for _, d := range []string{root + "/usr/lib", dir + "/outside"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{
		"lib": "usr/lib", "escape": dir + "/outside", "up": "../outside", "usr/hosts": "../run/jump/deep/hosts", "loop": "loop",
	} {
		if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(root, "run"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/srv", filepath.Join(root, "run/jump")); err != nil {
		t.Fatal(err)
	}
	plan := &bundle.Plan{Guest: &specs.Spec{}, Mountpoints: []bundle.Mountpoint{
		{Path: "/proc"}, {Path: "/a/b/c"}, {Path: "/etc/hosts", File: true}, {Path: "/lib/x"}, {Path: "/"},
		{Path: "/escape/x"}, {Path: "/up/x"}, {Path: "/usr/hosts", File: true},
	}}
	for range 2 { // what is there already is no error
		if err := makeMountpoints(root, plan); err != nil {
			t.Fatal(err)
		}
	}
	for path, dir := range map[string]bool{
		"proc": true, "a/b/c": true, "etc/hosts": false, "usr/lib/x": true,
		// Inside the root, these links lead to what did not exist.
		dir + "/outside/x": true, "outside/x": true, "srv/deep/hosts": false,
	} {
		if st, err := os.Lstat(filepath.Join(root, path)); err != nil || st.IsDir() != dir {
			t.Errorf("%s: %v %v", path, st, err)
		}
	}
	if err := makeMountpoints(root, &bundle.Plan{Mountpoints: []bundle.Mountpoint{{Path: "/loop/x"}}}); !errors.Is(err, unix.ELOOP) {
		t.Errorf("a loop: %v", err)
	}
	if left, _ := os.ReadDir(dir + "/outside"); len(left) != 0 {
		t.Errorf("made outside of the root: %v", left)
	}
}

func TestIOThatCannotWork(t *testing.T) {
	for _, c := range []struct {
		terminal, detach bool
		socket           string
		ok               bool
	}{
		{false, false, "", true}, {true, false, "", true}, {false, true, "", true}, {true, true, "/s", true},
		{true, true, "", false}, {true, false, "/s", false}, {false, true, "/s", false}, {false, false, "/s", false},
	} {
		if err := checkIO(c.terminal, c.detach, c.socket); (err == nil) != c.ok {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestDeleteKillsWhatIsLeft(t *testing.T) {
	e := newEngine(t)
	vm := sleeper(t)
	// The monitor was killed; its machine is slow to notice.
	e.put(t, state.State{ID: "a", Status: specs.StateRunning, VM: vm})
	if i, err := e.State("a"); err != nil || i.Status != specs.StateStopped || i.PID != 0 {
		t.Errorf("%+v %v", i, err)
	}
	if err := e.Delete(t.Context(), "a", false); err != nil {
		t.Fatal(err)
	}
	if vm.Alive() {
		t.Error("the machine is left")
	}
	if _, err := e.State("a"); !errors.Is(err, state.ErrNotExist) {
		t.Error(err)
	}
}

func TestDeleteOfAHungContainer(t *testing.T) {
	e := newEngine(t)
	monitor, vm := sleeper(t), sleeper(t)
	e.put(t, state.State{ID: "a", Status: specs.StateRunning, Monitor: monitor, VM: vm})
	if err := e.Delete(t.Context(), "a", false); !errors.Is(err, ErrState) {
		t.Fatal(err)
	}
	if err := e.Delete(t.Context(), "a", true); err != nil {
		t.Fatal(err)
	}
	if monitor.Alive() || vm.Alive() {
		t.Error("something is left")
	}
}

func TestDeleteOfNothing(t *testing.T) {
	e := newEngine(t)
	if err := e.Delete(t.Context(), "a", false); !errors.Is(err, state.ErrNotExist) {
		t.Error(err)
	}
	if err := e.Delete(t.Context(), "a", true); err != nil {
		t.Error(err)
	}
	if err := e.Delete(t.Context(), "../a", true); !errors.Is(err, state.ErrInvalidID) {
		t.Error(err)
	}
}

func TestKillOfAHungGuestEndsTheMachine(t *testing.T) {
	e := newEngine(t)
	monitor, vm := sleeper(t), sleeper(t)
	e.put(t, state.State{ID: "a", Status: specs.StateRunning, Monitor: monitor, VM: vm})
	// Nobody listens on the machine's socket.
	if err := e.Kill(t.Context(), "a", unix.SIGTERM, false); err == nil || !vm.Alive() {
		t.Error(err)
	}
	if err := e.Kill(t.Context(), "a", unix.SIGKILL, false); err != nil {
		t.Error(err)
	}
	if err := vm.Wait(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestPIDFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pid")
	if err := writePIDFile(path, 42); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "42" {
		t.Errorf("%q %v", data, err)
	}
	if err := writePIDFile("/no/such/dir/pid", 42); err == nil {
		t.Error("written nowhere")
	}
}

func TestListSkipsWhatIsIncomplete(t *testing.T) {
	e := newEngine(t)
	e.put(t, state.State{ID: "a", Status: specs.StateRunning, Monitor: sleeper(t)})
	e.put(t, state.State{ID: "broken"})
	for path, data := range map[string]string{"broken/state.json": "{", "x": ""} {
		if err := os.WriteFile(filepath.Join(e.Store.Root, path), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(e.Store.Root, "incomplete"), 0o700); err != nil {
		t.Fatal(err)
	}
	all, err := e.List()
	if len(all) != 1 || all[0].ID != "a" || all[0].Status != specs.StateRunning || err == nil || !strings.Contains(err.Error(), "broken") {
		t.Errorf("%+v %v", all, err)
	}
}

// A tmpfs is for everybody unless the directory below it is not.
func TestModeOfATmpfsWhoseDirectoryWasMissing(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "there"), 0o750); err != nil {
		t.Fatal(err)
	}
	tmpfs := func(path string, options ...string) specs.Mount {
		return specs.Mount{Type: "tmpfs", Destination: path, Options: options}
	}
	plan := &bundle.Plan{
		Guest:       &specs.Spec{Mounts: []specs.Mount{tmpfs("/there"), tmpfs("/new", "nodev"), tmpfs("/mine", "mode=700"), {Type: "proc", Destination: "/proc"}}},
		Mountpoints: []bundle.Mountpoint{{Path: "/there"}, {Path: "/new"}, {Path: "/mine"}, {Path: "/proc"}},
	}
	if err := makeMountpoints(root, plan); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"", "nodev,mode=1777", "mode=700", ""} {
		if got := strings.Join(plan.Guest.Mounts[i].Options, ","); got != want {
			t.Errorf("%s: %q, want %q", plan.Guest.Mounts[i].Destination, got, want)
		}
	}
}
