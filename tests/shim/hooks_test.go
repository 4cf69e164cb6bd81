package shim

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// TestHooks runs a container of a whole configuration, with hooks of every kind
// that the host runs.
func TestHooks(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		dir := t.TempDir()
		log := filepath.Join(dir, "log")
		hook := func(name string) []specs.Hook {
			script := `read -r state; echo ` + name + ` "$state" >>` + log
			return []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", script}}}
		}
		spec := new(specs.Spec)
		if err := json.Unmarshal([]byte(s.do("oci", "spec").Output()), spec); err != nil {
			t.Fatal(err)
		}
		id := s.container()
		spec.Root = &specs.Root{Path: rootfs, Readonly: true}
		spec.Process.Args, spec.Process.Terminal = []string{"/bin/sh", "-c", "exit 4"}, false
		spec.Annotations = map[string]string{"io.microvm.machine": machine}
		spec.Linux.CgroupsPath = "/" + namespace + "/" + id
		spec.Hooks = &specs.Hooks{
			CreateRuntime: hook("createRuntime"), CreateContainer: hook("createContainer"),
			Poststart: hook("poststart"), Poststop: hook("poststop"),
		}
		data, err := json.Marshal(spec)
		if err != nil {
			t.Fatal(err)
		}
		config := filepath.Join(dir, "config.json")
		if err := os.WriteFile(config, data, 0o644); err != nil {
			t.Fatal(err)
		}
		s.do("run", "--rm", "--runtime", runtime, "--fifo-dir", s.dir, "--config", config, id).Wants(4)
		got, _ := os.ReadFile(log)
		var kinds []string
		for line := range strings.Lines(string(got)) {
			kind, state, _ := strings.Cut(line, " ")
			kinds = append(kinds, kind)
			if !strings.Contains(state, `"id":"`+id+`"`) {
				t.Errorf("state for %s: %s", kind, state)
			}
		}
		if want := "createRuntime createContainer poststart poststop"; strings.Join(kinds, " ") != want {
			t.Errorf("hooks: %v, want %s", kinds, want)
		}
	})
}
