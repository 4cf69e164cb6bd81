package install

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Options say what is to be installed.
type Options struct {
	// Binaries and Parts are the programs for bin and the files for
	// lib/microvm below Prefix.
	Binaries, Parts []string
	Prefix          string
	// Containerd, Docker and Podman are files to configure: containerd's and
	// docker's own, and one that only this package writes; "" for none.
	Containerd, Docker, Podman string
}

// File is one that is to be written.
type File struct {
	Path    string
	Content []byte
	Mode    fs.FileMode
	// Config says that others may change it, too.
	Config bool
	// Inserted is the text that was put into what was there, if that is all.
	Inserted string
}

// Plan is what is to be done.
type Plan struct {
	Files []File
	// Notes are for the person who installs.
	Notes []string

	prefix string
	known  map[string]entry // of an earlier installation
}

// Prepare makes a plan of what differs from what is there. It changes nothing.
func Prepare(ctx context.Context, o Options) (*Plan, error) {
	old, err := loadRecord(o.Prefix)
	if err != nil {
		return nil, err
	}
	p := &Plan{prefix: o.Prefix, known: old.byPath()}
	if err := p.addPrograms(o); err != nil {
		return nil, err
	}
	if o.Containerd != "" {
		if err := p.addContainerd(ctx, o.Containerd, o.Prefix); err != nil {
			return nil, err
		}
	}
	if o.Docker != "" {
		if err := p.addDocker(o.Docker, o.Prefix); err != nil {
			return nil, err
		}
	}
	if o.Podman != "" {
		return p, p.add(File{Path: o.Podman, Mode: 0o644, Config: true, Content: []byte(podmanText(o.Prefix))})
	}
	return p, nil
}

func (p *Plan) addPrograms(o Options) error {
	if err := p.addCopies(binDir(o.Prefix), o.Binaries); err != nil {
		return err
	}
	return p.addCopies(libDir(o.Prefix), o.Parts)
}

func (p *Plan) addCopies(dir string, sources []string) error {
	for _, source := range sources {
		content, err := os.ReadFile(source)
		if err != nil {
			return fmt.Errorf("read what is to be installed: %w", err)
		}
		st, err := os.Stat(source)
		if err != nil {
			return fmt.Errorf("read what is to be installed: %w", err)
		}
		if err := p.add(File{Path: filepath.Join(dir, filepath.Base(source)), Mode: st.Mode().Perm(), Content: content}); err != nil {
			return err
		}
	}
	return nil
}

// add leaves out a file that is as it should be. A link is followed, and a
// configuration keeps its mode.
func (p *Plan) add(f File) error {
	if real, err := filepath.EvalSymlinks(f.Path); err == nil {
		f.Path = real
	}
	if st, err := os.Stat(f.Path); err == nil && f.Config {
		f.Mode = st.Mode().Perm()
	}
	now, err := os.ReadFile(f.Path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read what is installed: %w", err)
	}
	if err != nil || !bytes.Equal(now, f.Content) {
		p.Files = append(p.Files, f)
	}
	return nil
}

func (p *Plan) note(format string, args ...any) {
	p.Notes = append(p.Notes, fmt.Sprintf(format, args...))
}

func binDir(prefix string) string { return filepath.Join(prefix, "bin") }
func libDir(prefix string) string { return filepath.Join(prefix, "lib", "microvm") }

// Runtime is the path of the installed command.
func Runtime(prefix string) string { return filepath.Join(binDir(prefix), "microvm-runtime") }

func podmanText(prefix string) string {
	return fmt.Sprintf("[engine.runtimes]\nmicrovm = [%q]\n", Runtime(prefix))
}
