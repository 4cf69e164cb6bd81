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
// leftover with the same id is replaced; any other gives ErrExists.
func (st Store) Create(s *State) (*Dir, error) {
	if err := ValidateID(s.ID); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(st.Root, 0o700); err != nil {
		return nil, fmt.Errorf("create state root: %w", err)
	}
	// The first round may have to remove what a dead process left; creators of
	// the same id may take each other's directory, still empty, for that.
	for range 100 {
		d, err := st.create(s)
		if !errors.Is(err, ErrExists) || !st.removeStale(s.ID) {
			return d, err
		}
	}
	return nil, ErrExists
}

func (st Store) create(s *State) (*Dir, error) {
	path := filepath.Join(st.Root, s.ID)
	if err := os.Mkdir(path, 0o700); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return nil, ErrExists
		}
		return nil, fmt.Errorf("create state directory: %w", err)
	}
	d, err := openDir(path, s.ID, os.O_CREATE)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrExists // another create took the empty directory for a leftover
	}
	if err != nil {
		os.Remove(path)
		return nil, err
	}
	if d.complete() {
		// Worse: the leftover was replaced meanwhile, and this is its lock.
		d.Close()
		return nil, ErrExists
	}
	if err := d.Save(s); err != nil {
		return nil, errors.Join(err, d.Remove(), d.Close())
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

// RemoveBroken removes a directory whose creation was cut short, before there
// was a state in it, or whose removal was. One that somebody is working on is
// left alone.
func (st Store) RemoveBroken(id string) error {
	if err := ValidateID(id); err != nil {
		return err
	}
	path := filepath.Join(st.Root, id)
	d, err := openDir(path, id, os.O_CREATE|unix.O_NONBLOCK)
	if errors.Is(err, fs.ErrNotExist) {
		return os.RemoveAll(path + removing)
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
