// Package deploy has the files that tell Kubernetes and containerd of the
// runtime.
package deploy

import (
	"embed"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"strings"
	"text/template"
)

//go:embed *.yaml *.toml
var files embed.FS

// Values are what is different between hosts.
type Values struct {
	// Memory is the overhead of a pod, in MiB.
	Memory uint64
	// CPU is that of processors, in thousandths of one.
	CPU uint64
	// Nodes is the label of nodes that pods may be on, nil for all.
	Nodes *Label
}

// Label is one of an object of Kubernetes'.
type Label struct{ Key, Value string }

// label is what Kubernetes takes for one: a name, which may be after a domain, and
// a value, which may be empty.
var label = regexp.MustCompile(`^(([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?)=(([A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?)?)$`)

// ParseLabel reads one as kubectl writes it, KEY=VALUE.
func ParseLabel(text string) (*Label, error) {
	m := label.FindStringSubmatch(text)
	if m == nil {
		return nil, fmt.Errorf("%q is not a label: write KEY=VALUE, as for `kubectl label`", text)
	}
	return &Label{Key: m[1], Value: m[5]}, nil
}

// Names are the manifests', without the ends of the files' names.
func Names() (names []string) {
	all, _ := fs.ReadDir(files, ".") // an embedded directory
	for _, f := range all {
		names = append(names, strings.TrimSuffix(f.Name(), path.Ext(f.Name())))
	}
	return names
}

// Write writes a manifest.
func Write(w io.Writer, name string, v Values) error {
	found, _ := fs.Glob(files, name+".*")
	if len(found) != 1 || !fs.ValidPath(name) {
		return fmt.Errorf("manifest %q does not exist: there are %s", name, strings.Join(Names(), ", "))
	}
	t, err := template.ParseFS(files, found[0])
	if err != nil {
		return fmt.Errorf("read manifest: %w", err)
	}
	return t.Execute(w, v)
}
