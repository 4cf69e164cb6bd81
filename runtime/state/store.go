package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Store is a root directory full of containers. It has no state of its own and
// may be used concurrently, also by other processes.
type Store struct {
	// Root is created when the first container is.
	Root string
	// Replacing, if there, is called by Create before it removes a stale
	// leftover, which is locked, for what exists outside of the directory. It
	// must not use the store.
	Replacing func(*State)
}

// Create makes the directory of a new container, locked, with s in it. A stale
// leftover with the same id is replaced; any other gives ErrExists. Of several
// creators of an id, exactly one wins.
func (st Store) Create(s *State) (*Dir, error) {
	if err := ValidateID(s.ID); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(st.Root, 0o700); err != nil {
		return nil, fmt.Errorf("create state root: %w", err)
	}
	if err := st.sweep(); err != nil {
		return nil, err
	}
	d, err := st.make(s)
	if err != nil {
		return nil, err
	}
	for {
		err := d.publish(filepath.Join(st.Root, s.ID))
		if err == nil {
			return d, nil
		}
		if !errors.Is(err, ErrExists) || !st.removeStale(s.ID) {
			return nil, errors.Join(err, os.RemoveAll(d.path), d.Close())
		}
	}
}

// make makes the directory under a name that nobody else uses.
func (st Store) make(s *State) (*Dir, error) {
	path, err := privateName(filepath.Join(st.Root, s.ID))
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		return nil, fmt.Errorf("create state directory: %w", err)
	}
	d, err := openDir(path, s.ID, os.O_CREATE)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(path))
	}
	if err := d.Save(s); err != nil {
		return nil, errors.Join(err, os.RemoveAll(path), d.Close())
	}
	return d, nil
}

// removeStale reports whether there was something stale and it is gone now.
func (st Store) removeStale(id string) bool {
	d, err := st.Open(id)
	if errors.Is(err, ErrNotExist) {
		return st.RemoveBroken(id) == nil
	}
	if err != nil {
		return false
	}
	defer d.Close()
	s, err := d.Load()
	if err != nil || !s.Stale() {
		return false
	}
	if st.Replacing != nil {
		st.Replacing(s)
	}
	return d.Remove() == nil
}

// Open locks the container's directory. Without a complete state in it, or
// without the directory, it is ErrNotExist.
func (st Store) Open(id string) (*Dir, error) {
	if err := ValidateID(id); err != nil {
		return nil, err
	}
	path := filepath.Join(st.Root, id)
	d, err := openDir(path, id, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotExist
	}
	if err != nil {
		return nil, err
	}
	if !d.complete() {
		d.Close()
		return nil, ErrNotExist
	}
	return d, nil
}

// Load reads the state of a container without locking it.
func (st Store) Load(id string) (*State, error) {
	if err := ValidateID(id); err != nil {
		return nil, err
	}
	return load(filepath.Join(st.Root, id))
}

// Path is where the container's file called name lies.
func (st Store) Path(id, name string) string { return filepath.Join(st.Root, id, name) }

// RemoveBroken removes what is left where a creation or a removal was cut short,
// and a directory without a state. One that somebody is working on is left alone.
func (st Store) RemoveBroken(id string) error {
	if err := ValidateID(id); err != nil {
		return err
	}
	if err := st.sweep(); err != nil {
		return err
	}
	d, err := openDir(filepath.Join(st.Root, id), id, os.O_CREATE|unix.O_NONBLOCK)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	if d.complete() {
		return ErrExists
	}
	return d.Remove()
}

// List returns the ids below the root, sorted. A root that does not exist is
// reported as fs.ErrNotExist.
func (st Store) List() ([]string, error) {
	entries, err := os.ReadDir(st.Root)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, e := range entries {
		if e.IsDir() && ValidateID(e.Name()) == nil {
			ids = append(ids, e.Name())
		}
	}
	return ids, nil
}
