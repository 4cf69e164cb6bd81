// Package deploy has the files that tell Kubernetes and containerd of the
// runtime.
package deploy

import (
	"embed"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"text/template"
)

//go:embed *.yaml *.toml
var files embed.FS

// Values are what is different between hosts.
type Values struct {
	// Memory is the overhead of a pod, in MiB.
	Memory uint64
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
