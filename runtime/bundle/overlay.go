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
		path = b.path(path)
		st, err := stat(path)
		if err != nil {
			return "", err
		}
		if !st.IsDir() {
			return "", fmt.Errorf("%s is not a directory", path)
		}
		e := Export{Name: fmt.Sprintf("mount%d%s", i, suffix), Path: path, ReadOnly: ro, OneDevice: true}
		p.Exports = append(p.Exports, e)
		return guestPath(e.Name), nil
	}
	for n := range l.lower {
		if l.lower[n], err = export(l.lower[n], fmt.Sprintf("-lower%d", n), true); err != nil {
			return err
		}
	}
	options := append(l.rest, api.OptionUserXattr, "lowerdir="+strings.Join(l.lower, ":"))
	if l.upper != "" {
		upper, work := b.path(l.upper), b.path(l.work)
		if filepath.Dir(upper) != filepath.Dir(work) || upper == work {
			return fmt.Errorf("upperdir %s and workdir %s must be in one directory, which the machine is given", upper, work)
		}
		dir, err := export(filepath.Dir(upper), "-upper", false)
		if err != nil {
			return err
		}
		options = append(options, "upperdir="+dir+"/"+filepath.Base(upper), "workdir="+dir+"/"+filepath.Base(work))
	}
	m.Source, m.Options = overlayType, options
	return nil
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
