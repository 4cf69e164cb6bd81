package install

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// snapshot is every file and directory below root with content and mode.
func snapshot(t *testing.T, root string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		b.WriteString(path + " " + st.Mode().String() + " ")
		if d.Type().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			b.Write(data)
		}
		b.WriteString("\n")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func write(t *testing.T, path, text string, mode fs.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
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

// options are those of a host with docker and podman, and an older program.
func options(t *testing.T) (root string, o Options) {
	t.Helper()
	from := t.TempDir()
	write(t, from+"/microvm-runtime", "program", 0o755)
	write(t, from+"/vmlinux", "kernel", 0o644)
	root = t.TempDir()
	write(t, root+"/usr/bin/microvm-runtime", "older", 0o700)
	write(t, root+"/etc/daemon.json", `{"debug": true, "runtimes": {"other": {"path": "/other"}}}`, 0o600)
	return root, Options{
		Binaries: []string{from + "/microvm-runtime"}, Parts: []string{from + "/vmlinux"}, Prefix: root + "/usr",
		Docker: root + "/etc/daemon.json", Podman: root + "/etc/containers.conf.d/microvm.conf",
	}
}

func install(t *testing.T, o Options) *Plan {
	t.Helper()
	p, err := Prepare(context.Background(), o)
	if err == nil {
		err = p.Apply()
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func remove(t *testing.T, prefix string) []string {
	t.Helper()
	var steps []string
	if err := Remove(prefix, false, func(s string) { steps = append(steps, s) }); err != nil {
		t.Fatal(err)
	}
	return steps
}

func TestInstallIsUndone(t *testing.T) {
	root, o := options(t)
	before := snapshot(t, root)
	install(t, o)
	if read(t, root+"/usr/bin/microvm-runtime") != "program" || read(t, root+"/usr/lib/microvm/vmlinux") != "kernel" {
		t.Error("files are not in place")
	}
	var docker struct {
		Debug    bool
		Runtimes map[string]struct{ Path string }
	}
	if err := json.Unmarshal([]byte(read(t, o.Docker)), &docker); err != nil || !docker.Debug || docker.Runtimes["other"].Path != "/other" || docker.Runtimes["microvm"].Path != root+"/usr/bin/microvm-runtime" {
		t.Errorf("docker: %+v, %v", docker, err)
	}
	if got := read(t, o.Podman); !strings.Contains(got, root+"/usr/bin/microvm-runtime") {
		t.Errorf("podman: %s", got)
	}
	if st, err := os.Stat(o.Docker); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode of docker's configuration: %v, %v", st.Mode(), err)
	}
	remove(t, o.Prefix)
	if got := snapshot(t, root); got != before {
		t.Errorf("after the removal:\n%s\nbefore:\n%s", got, before)
	}
	if err := Remove(o.Prefix, false, nil); !errors.Is(err, ErrNotInstalled) {
		t.Errorf("again: %v", err)
	}
}

// TestInstallTwice changes nothing the second time, and an upgrade is undone in
// one go.
func TestInstallTwice(t *testing.T) {
	root, o := options(t)
	before := snapshot(t, root)
	install(t, o)
	first := snapshot(t, root)
	if p := install(t, o); len(p.Files) != 0 || snapshot(t, root) != first {
		t.Errorf("the second writes %v", p.Files)
	}
	write(t, o.Binaries[0], "newer", 0o755)
	install(t, o)
	if got := read(t, root+"/usr/bin/microvm-runtime"); got != "newer" {
		t.Errorf("the program is the %s one", got)
	}
	remove(t, o.Prefix)
	if got := snapshot(t, root); got != before {
		t.Errorf("after the removal:\n%s\nbefore:\n%s", got, before)
	}
}

func TestDryRunsChangeNothing(t *testing.T) {
	root, o := options(t)
	before := snapshot(t, root)
	if p, err := Prepare(context.Background(), o); err != nil || len(p.Files) != 4 {
		t.Errorf("%+v, %v", p, err)
	}
	if snapshot(t, root) != before {
		t.Error("a plan has changed something")
	}
	install(t, o)
	after, steps := snapshot(t, root), 0
	if err := Remove(o.Prefix, true, func(string) { steps++ }); err != nil || steps != 4 || snapshot(t, root) != after {
		t.Errorf("%d steps, %v", steps, err)
	}
}

// TestFailedInstallLeavesNothing fails at the last file, whose directory turns
// into a file after the plan was made.
func TestFailedInstallLeavesNothing(t *testing.T) {
	root, o := options(t)
	p, err := Prepare(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	p.Files = append(p.Files, File{Path: root + "/etc/daemon.json/file", Mode: 0o644})
	before := snapshot(t, root)
	if err := p.Apply(); err == nil {
		t.Fatal("a file in a file")
	}
	if got := snapshot(t, root); got != before {
		t.Errorf("after the failure:\n%s\nbefore:\n%s", got, before)
	}
}

// TestChangedConfigurationIsKept leaves what others have written since, with an
// error until it is done by hand.
func TestChangedConfigurationIsKept(t *testing.T) {
	root, o := options(t)
	install(t, o)
	write(t, o.Docker, `{"changed": true}`, 0o600)
	err := Remove(o.Prefix, false, func(string) {})
	if err == nil || !strings.Contains(err.Error(), o.Docker) {
		t.Errorf("%v", err)
	}
	if got := read(t, o.Docker); got != `{"changed": true}` {
		t.Errorf("%s", got)
	}
	if got := read(t, root+"/usr/bin/microvm-runtime"); got != "older" {
		t.Errorf("the program is the %s one", got)
	}
	write(t, o.Docker, `{"debug": true, "runtimes": {"other": {"path": "/other"}}}`, 0o600)
	if steps := remove(t, o.Prefix); len(steps) != 0 {
		t.Errorf("by hand, and then %v", steps)
	}
}

func TestInsertionIsTakenOut(t *testing.T) {
	root := t.TempDir()
	file := root + "/etc/config.toml"
	write(t, file, "a = 1\n", 0o640)
	p := &Plan{prefix: root, Files: []File{{Path: file, Config: true, Mode: 0o640, Content: []byte("own = 1\na = 1\n"), Inserted: "own = 1\n"}}}
	if err := p.Apply(); err != nil {
		t.Fatal(err)
	}
	write(t, file, "own = 1\na = 2\n", 0o640)
	if steps := remove(t, root); len(steps) != 1 || read(t, file) != "a = 2\n" {
		t.Errorf("%v: %s", steps, read(t, file))
	}
}

func TestBrokenDockerConfiguration(t *testing.T) {
	_, o := options(t)
	for _, text := range []string{"{", `{"runtimes": 5}`} {
		write(t, o.Docker, text, 0o600)
		if _, err := Prepare(context.Background(), o); err == nil || !strings.Contains(err.Error(), o.Docker) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestSetImports(t *testing.T) {
	for text, want := range map[string]string{
		"version = 2\n": "imports = [\"/a\"]\nversion = 2\n",
		"version = 2\nimports = [\"b\",\n  \"c\"]\nx = 1\n": "version = 2\nimports = [\"/a\"]\nx = 1\n",
	} {
		if got, _, err := setImports(text, []string{"/a"}); err != nil || got != want {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	for _, text := range []string{"imports = [ # none\n]\n", "imports = {}\n", "[t]\n[t\n"} {
		if got, _, err := setImports(text, []string{"/a"}); err == nil {
			t.Errorf("%q: %q", text, got)
		}
	}
}
