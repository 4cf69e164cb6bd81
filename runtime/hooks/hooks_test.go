//lint:file-ignore SA1019 docker still writes prestart hooks

package hooks

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func shell(script string) specs.Hook {
	return specs.Hook{Path: "/bin/sh", Args: []string{"sh", "-c", script}, Env: []string{"X=y"}}
}

func TestHooksGetStateArgumentsAndEnvironment(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	h := &specs.Hooks{CreateRuntime: []specs.Hook{
		shell("cat > " + out),
		shell("echo; env | grep -c . >> " + out + "; echo $X $PWD >> " + out),
	}}
	want := specs.State{Version: specs.Version, ID: "a", Status: specs.StateCreating, Pid: 42, Bundle: "/b", Annotations: map[string]string{"k": "v"}}
	if err := Run(t.Context(), h, CreateRuntime, want); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	state, rest, _ := strings.Cut(string(data), "}}")
	var got specs.State
	if err := json.Unmarshal([]byte(state+"}}"), &got); err != nil || got.Pid != 42 || got.Annotations["k"] != "v" || got.Bundle != "/b" {
		t.Errorf("%q: %v", data, err)
	}
	// sh adds PWD to the environment.
	if rest != "2\ny /\n" {
		t.Errorf("environment and directory: %q", rest)
	}
	bundle := t.TempDir()
	if err := Run(t.Context(), h, CreateRuntime, specs.State{Bundle: bundle}); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(out); err != nil || !strings.HasSuffix(string(data), "\ny "+bundle+"\n") {
		t.Errorf("directory: %s %v", data, err)
	}
}

func TestCreateContainerHooksAreInTheRoot(t *testing.T) {
	bundle, out := t.TempDir(), filepath.Join(t.TempDir(), "out")
	rootfs := filepath.Join(bundle, "rootfs")
	if err := os.Mkdir(rootfs, 0o755); err != nil {
		t.Fatal(err)
	}
	pwd := []specs.Hook{shell("pwd >> " + out)}
	h := &specs.Hooks{Prestart: pwd, CreateRuntime: pwd, CreateContainer: pwd}
	direct := func(f func() error) error { return f() }
	if err := Create(t.Context(), h, specs.State{Bundle: bundle}, rootfs, direct); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(out); string(got) != bundle+"\n"+bundle+"\n"+rootfs+"\n" {
		t.Errorf("%s %v", got, err)
	}
}

func TestFirstFailureEndsRun(t *testing.T) {
	mark := filepath.Join(t.TempDir(), "mark")
	h := &specs.Hooks{Poststop: []specs.Hook{shell("echo out; echo why >&2; exit 3"), shell("touch " + mark)}}
	err := Run(t.Context(), h, Poststop, specs.State{})
	if err == nil || !strings.Contains(err.Error(), "error running poststop hook #0: /bin/sh: exit status 3, stdout: out\n, stderr: why") {
		t.Error(err)
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("the next hook ran")
	}
	var warned []error
	RunAll(t.Context(), h, Poststop, specs.State{}, func(err error) { warned = append(warned, err) })
	if _, err := os.Stat(mark); err != nil || len(warned) != 1 {
		t.Errorf("%v, warned %v", err, warned)
	}
}

func TestTimeout(t *testing.T) {
	one := 1
	hook := shell("sleep 1000")
	hook.Timeout = &one
	err := Run(t.Context(), &specs.Hooks{Prestart: []specs.Hook{hook}}, Prestart, specs.State{})
	if err == nil || !strings.Contains(err.Error(), "hook ran past specified timeout of 1s") {
		t.Error(err)
	}
}

func TestCallerGivesUp(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	if err := Run(ctx, &specs.Hooks{Prestart: []specs.Hook{shell("sleep 1000")}}, Prestart, specs.State{}); err == nil {
		t.Error("no error")
	}
}

// A hook may start a daemon that keeps its output open.
func TestDaemonOfAHook(t *testing.T) {
	if err := Run(t.Context(), &specs.Hooks{Prestart: []specs.Hook{shell("sleep 20 & exit 0")}}, Prestart, specs.State{}); err != nil {
		t.Error(err)
	}
}

func TestNoHooks(t *testing.T) {
	for _, k := range []Kind{Prestart, CreateRuntime, CreateContainer, Poststart, Poststop, "startContainer"} {
		if err := Run(t.Context(), nil, k, specs.State{}); err != nil {
			t.Error(err)
		}
	}
	if err := Run(t.Context(), &specs.Hooks{Prestart: []specs.Hook{{Path: "/no/such/hook"}}}, Prestart, specs.State{}); err == nil {
		t.Error("ran nothing")
	}
}
