package install

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
)

// Apply does what the plan says. After an error everything is as it was.
func (p *Plan) Apply() error {
	if len(p.Files) == 0 {
		return nil
	}
	old, err := loadRecord(p.prefix)
	if err != nil {
		return err
	}
	r := old
	if err = p.makeDirs(&r); err == nil {
		err = p.keepBefore(&r)
	}
	if err == nil {
		err = r.save(p.prefix) // before it is true, lest it be lost
	}
	var done []File
	for _, f := range p.Files {
		if err != nil {
			break
		}
		was, rerr := os.ReadFile(f.Path)
		if rerr != nil {
			was = nil
		}
		if err = writeFile(f.Path, f.Content, f.Mode); err == nil {
			done = append(done, File{Path: f.Path, Content: was, Mode: f.Mode})
		}
	}
	if err != nil {
		return errors.Join(fmt.Errorf("install: %w", err), p.rollBack(done, old, r))
	}
	return nil
}

// makeDirs makes the directories that are missing.
func (p *Plan) makeDirs(r *record) error {
	paths := []string{filepath.Join(libDir(p.prefix), beforeName)}
	for _, f := range p.Files {
		paths = append(paths, filepath.Dir(f.Path))
	}
	for _, path := range paths {
		made, err := makeDir(path)
		r.Dirs = append(r.Dirs, made...)
		if err != nil {
			return err
		}
	}
	return nil
}

// makeDir returns what it made, the outermost first.
func makeDir(path string) (made []string, err error) {
	if _, err := os.Stat(path); err == nil {
		return nil, nil
	}
	if made, err = makeDir(filepath.Dir(path)); err != nil {
		return made, err
	}
	if err := os.Mkdir(path, 0o755); err != nil {
		return made, err
	}
	return append(made, path), nil
}

// keepBefore copies what is about to be replaced, unless an earlier installation
// put it there.
func (p *Plan) keepBefore(r *record) error {
	for _, f := range p.Files {
		e, known := p.known[f.Path]
		if !known {
			e = entry{Path: f.Path, Config: f.Config}
			if err := p.keep(&e, len(r.Files)); err != nil {
				return err
			}
		}
		e.Sum, e.Inserted = sum(f.Content), f.Inserted
		r.put(e)
	}
	return nil
}

func (p *Plan) keep(e *entry, number int) error {
	content, err := os.ReadFile(e.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	st, err := os.Stat(e.Path)
	if err != nil {
		return err
	}
	e.Mode = st.Mode().Perm()
	e.Before = filepath.Join(libDir(p.prefix), beforeName, strconv.Itoa(number)+"-"+filepath.Base(e.Path))
	return writeFile(e.Before, content, e.Mode)
}

func (r *record) put(e entry) {
	for i := range r.Files {
		if r.Files[i].Path == e.Path {
			r.Files[i] = e
			return
		}
	}
	r.Files = append(r.Files, e)
}

// rollBack undoes what was done, whose Content is what was there before.
func (p *Plan) rollBack(done []File, old, now record) (err error) {
	for _, f := range done {
		if f.Content == nil {
			err = errors.Join(err, os.Remove(f.Path))
		} else {
			err = errors.Join(err, writeFile(f.Path, f.Content, f.Mode))
		}
	}
	if len(old.Files) > 0 {
		return errors.Join(err, old.save(p.prefix))
	}
	return errors.Join(err, now.forget(p.prefix))
}

// forget removes the record and what was kept, and directories that are empty
// then.
func (r record) forget(prefix string) error {
	err := os.RemoveAll(filepath.Join(libDir(prefix), beforeName))
	if rerr := os.Remove(recordPath(prefix)); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
		err = errors.Join(err, rerr)
	}
	for i := len(r.Dirs) - 1; i >= 0; i-- {
		_ = os.Remove(r.Dirs[i]) // others may have put something there
	}
	return err
}
