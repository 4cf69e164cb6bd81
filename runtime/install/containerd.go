package install

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// Name is the runtime's in every configuration.
const Name = "microvm"

// runtimeType is its name to containerd.
const runtimeType = "io.containerd.microvm.v1"

// dropInName is a file that containerd's own configuration may import.
const dropInName = "conf.d/microvm.toml"

// Places of CRI's configuration.
const (
	criV2 = "io.containerd.grpc.v1.cri"
	criV3 = "io.containerd.cri.v1.runtime"
)

// ErrNotUnderstood says that a configuration is not one to change.
var ErrNotUnderstood = errors.New("it is not understood well enough to be changed")

// containerd is a daemon's configuration. What it says is always asked of the
// daemon's own program.
type containerd struct {
	program, file, prefix string

	text    string // of file, "" without one
	version int
	before  table // what containerd makes of it
}

// table is one of TOML.
type table = map[string]any

// addContainerd adds the runtime to containerd's configuration, in one of several
// ways: the first by which containerd would have the runtime and all else be as
// it was.
func (p *Plan) addContainerd(ctx context.Context, file, prefix string) error {
	c, err := openContainerd(ctx, file, prefix)
	if err != nil {
		return err
	}
	if reason := c.withoutCRI(); reason != "" {
		p.note("%s: %s: there is nothing to configure, clients name the runtime %s themselves", file, reason, runtimeType)
		return nil
	}
	if runtimes(c.before)[Name] != nil {
		p.note("%s has the runtime already", file)
		return nil
	}
	files, err := c.change(ctx)
	if err != nil {
		return fmt.Errorf("configure containerd: %w; add this by hand:\n\n%s", err, c.fragment(nil))
	}
	for _, f := range files {
		if err := p.add(f); err != nil {
			return err
		}
	}
	p.note("containerd reads %s when it starts: systemctl restart containerd", file)
	return nil
}

func openContainerd(ctx context.Context, file, prefix string) (*containerd, error) {
	program, err := exec.LookPath("containerd")
	if err != nil {
		return nil, fmt.Errorf("find containerd: %w: install it, or leave its configuration alone with --no-containerd", err)
	}
	if real, err := filepath.EvalSymlinks(file); err == nil {
		file = real
	}
	c := &containerd{program: program, file: file, prefix: prefix}
	if err := c.readVersion(ctx); err != nil {
		return nil, fmt.Errorf("read containerd's configuration: %s: %w; nothing was changed", file, err)
	}
	text := c.text
	if text == "" {
		text = fmt.Sprintf("version = %d\n", c.version)
	}
	if c.before, err = c.dump(ctx, text); err != nil {
		return nil, fmt.Errorf("read containerd's configuration: %w; nothing was changed", err)
	}
	return c, nil
}

// readVersion finds out which form the configuration has, or should have.
func (c *containerd) readVersion(ctx context.Context) error {
	data, err := os.ReadFile(c.file)
	if errors.Is(err, fs.ErrNotExist) {
		out, err := exec.CommandContext(ctx, c.program, "--version").Output()
		if err != nil {
			return err
		}
		c.version = 2
		if f := strings.Fields(string(out)); len(f) > 2 && regexp.MustCompile(`^v?[2-9]\.`).MatchString(f[2]) {
			c.version = 3
		}
		return nil
	}
	var head struct {
		Version int `toml:"version"`
	}
	if err == nil {
		err = toml.Unmarshal(data, &head)
	}
	if err != nil {
		return err
	}
	if head.Version < 2 || head.Version > 4 {
		return fmt.Errorf("version %d: %w", head.Version, ErrNotUnderstood)
	}
	c.text, c.version = string(data), head.Version
	return nil
}

// dump is what containerd makes of text in the place of its configuration.
func (c *containerd) dump(ctx context.Context, text string) (table, error) {
	dir := filepath.Dir(c.file)
	if _, err := os.Stat(dir); err != nil {
		dir = "" // then no relative path in it means anything
	}
	f, err := os.CreateTemp(dir, ".microvm-*.toml")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, c.program, "--config", f.Name(), "config", "dump")
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("containerd config dump: %w: %s", err, strings.TrimSpace(said.String()))
	}
	t := table{}
	if err := toml.Unmarshal(out, &t); err != nil {
		return nil, fmt.Errorf("containerd config dump: %w", err)
	}
	// An older containerd lists the file itself.
	t["imports"] = slices.DeleteFunc(imports(t), func(i string) bool { return i == f.Name() })
	return t, nil
}

func imports(t table) (all []string) {
	switch list := t["imports"].(type) {
	case []string:
		return list
	case []any:
		for _, i := range list {
			all = append(all, fmt.Sprint(i))
		}
	}
	return all
}

// runtimes are CRI's in what containerd says of itself.
func runtimes(t table) table {
	for _, key := range []string{criV3, criV2} {
		at := t
		for _, k := range []string{"plugins", key, "containerd", "runtimes"} {
			at, _ = at[k].(table)
		}
		if at != nil {
			return at
		}
	}
	return nil
}

// withoutCRI says why this containerd serves no CRI, "" if it does.
func (c *containerd) withoutCRI() string {
	disabled, _ := c.before["disabled_plugins"].([]any)
	for _, d := range disabled {
		if slices.Contains([]string{"cri", criV2, criV3}, fmt.Sprint(d)) {
			return "CRI is disabled in it"
		}
	}
	if runtimes(c.before) == nil {
		return "this containerd has no CRI"
	}
	return ""
}

// change finds files that add the runtime and change nothing else. Other runtimes
// are said again where they would be lost.
func (c *containerd) change(ctx context.Context) ([]File, error) {
	for _, way := range []func(others table) (text string, files []File, err error){c.create, c.dropIn, c.extend} {
		for _, others := range []table{nil, runtimes(c.before)} {
			text, files, err := way(others)
			if err != nil {
				continue // not this way
			}
			after, err := c.try(ctx, text, files)
			if err == nil && c.sound(after) {
				return files, nil
			}
		}
	}
	return nil, fmt.Errorf("%s: %w: no change of it adds the runtime and leaves all else as it is", c.file, ErrNotUnderstood)
}

var errNotThisWay = errors.New("not this way")

// create makes a configuration where there is none.
func (c *containerd) create(others table) (string, []File, error) {
	if c.text != "" {
		return "", nil, errNotThisWay
	}
	text := c.heading() + c.fragment(others)
	return text, []File{{Path: c.file, Mode: 0o644, Config: true, Content: []byte(text)}}, nil
}

// dropIn makes a file that the configuration imports, or is made to. The text is
// one that imports it in any case.
func (c *containerd) dropIn(others table) (text string, files []File, err error) {
	if c.text == "" {
		return "", nil, errNotThisWay
	}
	path := filepath.Join(filepath.Dir(c.file), dropInName)
	own := File{Path: path, Mode: 0o644, Config: true, Content: []byte(c.heading() + c.fragment(others))}
	was := imports(c.before)
	if c.imported(path) {
		return c.text, []File{own}, nil
	}
	text, inserted, err := setImports(c.text, append(slices.Clone(was), path))
	return text, []File{own, {Path: c.file, Mode: 0o644, Config: true, Content: []byte(text), Inserted: inserted}}, err
}

func (c *containerd) imported(path string) bool {
	return slices.ContainsFunc(imports(c.before), func(pattern string) bool {
		if !filepath.IsAbs(pattern) {
			pattern = filepath.Join(filepath.Dir(c.file), pattern)
		}
		hit, err := filepath.Match(pattern, path)
		return err == nil && hit
	})
}

// extend appends to the configuration.
func (c *containerd) extend(others table) (string, []File, error) {
	if c.text == "" {
		return "", nil, errNotThisWay
	}
	inserted := "\n# Added by microvm-runtime install.\n" + c.fragment(others)
	text := strings.TrimRight(c.text, "\n") + "\n" + inserted
	return text, []File{{Path: c.file, Mode: 0o644, Config: true, Content: []byte(text), Inserted: inserted}}, nil
}

// try is what containerd would make of the change. A file that is imported is
// tried under another name, beside the imports that there are.
func (c *containerd) try(ctx context.Context, text string, files []File) (table, error) {
	if len(files) == 0 || files[0].Path == c.file {
		return c.dump(ctx, text)
	}
	f, err := os.CreateTemp("", "microvm-*.toml")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := f.Write(files[0].Content); err != nil {
		return nil, err
	}
	text, _, err = setImports(c.text, append(slices.Clone(imports(c.before)), f.Name()))
	if err != nil {
		return nil, err
	}
	return c.dump(ctx, text)
}

// sound tells whether after has the runtime, and otherwise says what before says.
func (c *containerd) sound(after table) bool {
	own, _ := runtimes(after)[Name].(table)
	if own["runtime_type"] != c.runtimeType() {
		return false
	}
	delete(runtimes(after), Name)
	before := maps.Clone(c.before)
	for _, t := range []table{before, after} {
		delete(t, "imports") // that differ, and do not matter
	}
	return reflect.DeepEqual(before, after)
}

// runtimeType is the shim's path where containerd does not find it by the
// runtime's name.
func (c *containerd) runtimeType() string {
	if slices.Contains([]string{"/usr/local", "/usr"}, c.prefix) {
		return runtimeType
	}
	return filepath.Join(binDir(c.prefix), "containerd-shim-microvm-v1")
}

func (c *containerd) heading() string {
	return fmt.Sprintf("# Made by microvm-runtime install.\nversion = %d\n\n", c.version)
}

// fragment is the runtime's table, after those of others.
func (c *containerd) fragment(others table) string {
	key := criV3
	if c.version == 2 {
		key = criV2
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(others)) {
		if other, ok := others[name].(table); ok {
			writeTable(&b, fmt.Sprintf("plugins.%q.containerd.runtimes.%q", key, name), other)
		}
	}
	fmt.Fprintf(&b, "[plugins.%q.containerd.runtimes.%s]\n  runtime_type = %q\n  pod_annotations = [\"io.microvm.*\"]\n", key, Name, c.runtimeType())
	return b.String()
}

// writeTable writes t without headings for what is around it, which the
// configuration may have already.
func writeTable(b *strings.Builder, path string, t table) {
	values, inner := table{}, []string{}
	for _, name := range slices.Sorted(maps.Keys(t)) {
		if _, ok := t[name].(table); ok {
			inner = append(inner, name)
		} else {
			values[name] = t[name]
		}
	}
	text, _ := toml.Marshal(values) // which were read from TOML
	fmt.Fprintf(b, "[%s]\n%s\n", path, text)
	for _, name := range inner {
		writeTable(b, fmt.Sprintf("%s.%q", path, name), t[name].(table))
	}
}

// importsLine is where a configuration says what it imports, on lines without
// comments and brackets.
var importsLine = regexp.MustCompile(`(?m)^imports\s*=\s*\[[^\]#]*\]`)

// setImports makes a configuration import the list. inserted is what was put in,
// if nothing was replaced.
func setImports(text string, list []string) (changed, inserted string, err error) {
	quoted := make([]string, len(list))
	for i, path := range list {
		quoted[i] = fmt.Sprintf("%q", path)
	}
	line := "imports = [" + strings.Join(quoted, ", ") + "]"
	if at := importsLine.FindStringIndex(text); at != nil {
		changed = text[:at[0]] + line + text[at[1]:]
	} else {
		inserted = line + "\n"
		changed = inserted + text
	}
	var was, is table
	if err := errors.Join(toml.Unmarshal([]byte(text), &was), toml.Unmarshal([]byte(changed), &is)); err != nil {
		return "", "", err
	}
	if got := imports(is); !slices.Equal(got, list) {
		return "", "", fmt.Errorf("imports of %v: %w", got, ErrNotUnderstood)
	}
	delete(was, "imports")
	delete(is, "imports")
	if !reflect.DeepEqual(was, is) {
		return "", "", ErrNotUnderstood
	}
	return changed, inserted, nil
}
