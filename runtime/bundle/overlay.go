package bundle

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/microvm/microvm/agent/api"
)

const overlayType = "overlay"

// layers are the directories of an overlay mount.
type layers struct {
	lower       []string
	upper, work string
	// rest are the other options.
	rest []string
}

// splitOverlay makes exports of the layers of m, mount number i, for the guest
// to put together. Lower layers are read-only. Upper and work directory need to
// be in one file system of the guest, so what is exported is the directory that
// both are in. The guest keeps overlayfs's attributes in user.*, the only ones that
// it may set, and so it reads them there.
func (p *Plan) splitOverlay(b *Bundle, i int, m *specs.Mount, stat Stat) error {
	l, err := parseLayers(m.Options)
	if err != nil {
		return err
	}
	export := func(path, suffix string, ro bool) (string, error) {
		return p.exportDir(Export{Name: fmt.Sprintf("mount%d%s", i, suffix), Path: b.path(path), ReadOnly: ro, OneDevice: true, Destination: m.Destination}, stat)
	}
	for n := range l.lower {
		if l.lower[n], err = export(l.lower[n], fmt.Sprintf("-lower%d", n), true); err != nil {
			return err
		}
	}
	if l.upper != "" {
		l.upper, l.work = b.path(l.upper), b.path(l.work)
		err := l.exportUpper(func(dir string) (string, error) { return export(dir, "-upper", false) })
		if err != nil {
			return err
		}
	}
	l.rest = append(l.rest, api.OptionUserXattr)
	m.Source, m.Options = overlayType, l.options()
	return nil
}

// exportDir adds the directory e to the exports and returns where the guest has it.
func (p *Plan) exportDir(e Export, stat Stat) (string, error) {
	st, err := stat(e.Path)
	if err != nil {
		return "", err
	}
	if !st.IsDir() {
		return "", fmt.Errorf("%s is not a directory", e.Path)
	}
	p.Exports = append(p.Exports, e)
	return guestPath(e.Name), nil
}

// exportUpper has the directory exported that upper and work directory are in,
// and makes them the guest's.
func (l *layers) exportUpper(export func(dir string) (string, error)) error {
	if filepath.Dir(l.upper) != filepath.Dir(l.work) || l.upper == l.work {
		return fmt.Errorf("upperdir %s and workdir %s must be in one directory, which the machine is given", l.upper, l.work)
	}
	dir, err := export(filepath.Dir(l.upper))
	if err != nil {
		return err
	}
	l.upper, l.work = dir+"/"+filepath.Base(l.upper), dir+"/"+filepath.Base(l.work)
	return nil
}

// options are the mount's.
func (l *layers) options() []string {
	options := append(slices.Clone(l.rest), "lowerdir="+strings.Join(l.lower, ":"))
	if l.upper != "" {
		options = append(options, "upperdir="+l.upper, "workdir="+l.work)
	}
	return options
}

// parseLayers takes the options apart, without those that need what a share has
// not: attributes trusted.*, or file handles.
func parseLayers(options []string) (*layers, error) {
	l := &layers{}
	for _, o := range options {
		key, value, _ := strings.Cut(o, "=")
		switch key {
		case "lowerdir":
			l.lower = splitLower(value)
		case "upperdir":
			l.upper = unescape(value)
		case "workdir":
			l.work = unescape(value)
		case "lowerdir+", "datadir+":
			return nil, fmt.Errorf("%s is not supported: list all layers in lowerdir", key)
		case "metacopy", "redirect_dir", "index", "nfs_export", "userxattr", "xino", "uuid", "verity":
		default:
			l.rest = append(l.rest, o)
		}
	}
	if len(l.lower) == 0 || slices.Contains(l.lower, "") {
		return nil, errors.New("an overlay needs lowerdir=DIRECTORY[:DIRECTORY...]")
	}
	if (l.upper == "") != (l.work == "") {
		return nil, errors.New("an overlay has both upperdir and workdir, or none")
	}
	return l, nil
}

// splitLower splits a list by colons that no backslash precedes.
func splitLower(list string) []string {
	var all []string
	start := 0
	for i := 0; i < len(list); i++ {
		switch list[i] {
		case '\\':
			i++
		case ':':
			all = append(all, unescape(list[start:i]))
			start = i + 1
		}
	}
	return append(all, unescape(list[start:]))
}

func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
