package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Names inside a container's directory.
const (
	lockFile  = "lock"
	stateFile = "state.json"
	// SocketFile is the way into the virtual machine.
	SocketFile = "vsock.sock"
	// MachineFile is the socket of a monitor whose machine other containers join.
	MachineFile = "machine.sock"
	// NetworkFile names what the guest's network was made from last.
	NetworkFile = "network"
)

// Dir is a container's directory, locked until Close: nobody else changes the
// state meanwhile. It is not for concurrent use.
type Dir struct {
	id   string
	path string
	lock *os.File
}

// openDir locks the directory at path. Of flag, os.O_CREATE makes the lock
// file and unix.O_NONBLOCK refuses to wait for the lock.
func openDir(path, id string, flag int) (*Dir, error) {
	for {
		f, err := os.OpenFile(filepath.Join(path, lockFile), os.O_RDWR|flag&os.O_CREATE, 0o600)
		if err != nil {
			return nil, fmt.Errorf("open state lock: %w", err)
		}
		if err := flock(f, flag); err != nil {
			f.Close()
			return nil, fmt.Errorf("lock state of %s: %w", id, err)
		}
		// The directory may have been removed, and even made anew, while this
		// waited for the lock.
		if current(f) {
			return &Dir{id: id, path: path, lock: f}, nil
		}
		f.Close()
	}
}

func flock(f *os.File, flag int) error {
	how := unix.LOCK_EX
	if flag&unix.O_NONBLOCK != 0 {
		how |= unix.LOCK_NB
	}
	for {
		err := unix.Flock(int(f.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func current(f *os.File) bool {
	held, err1 := f.Stat()
	named, err2 := os.Stat(f.Name())
	return err1 == nil && err2 == nil && os.SameFile(held, named)
}

// Path is where the file called name lies.
func (d *Dir) Path(name string) string { return filepath.Join(d.path, name) }

// complete tells whether there is a state; without one, nobody but the process
// that makes the directory has any business here.
func (d *Dir) complete() bool {
	_, err := os.Lstat(d.Path(stateFile))
	return err == nil
}

// Load reads the state.
func (d *Dir) Load() (*State, error) { return load(d.path) }

func load(path string) (*State, error) {
	data, err := os.ReadFile(filepath.Join(path, stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotExist
	}
	if err != nil {
		return nil, fmt.Errorf("load state: %w", err)
	}
	s := new(State)
	if err := json.Unmarshal(data, s); err != nil {
		return nil, fmt.Errorf("load state %s: %w", filepath.Join(path, stateFile), err)
	}
	return s, nil
}

// Save replaces the state atomically. It is not synced: the state is only of
// use until the next boot.
func (d *Dir) Save(s *State) error {
	data, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("save state: %w", err)
	}
	if err := WriteFile(d.Path(stateFile), data); err != nil {
		return fmt.Errorf("save state: %w", err)
	}
	return nil
}

// publish gives the directory its name, which nobody else may have.
func (d *Dir) publish(path string) error {
	err := unix.Renameat2(unix.AT_FDCWD, d.path, unix.AT_FDCWD, path, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EEXIST) {
		return ErrExists
	}
	if err != nil {
		return fmt.Errorf("create state directory %s: %w", path, err)
	}
	d.path = path
	return nil
}

// Remove removes the directory. It is renamed first, so that its name is free
// at once and a removal that is cut off leaves nothing that looks like a
// container. The lock stays held until Close.
func (d *Dir) Remove() error {
	doomed, err := privateName(d.path)
	if err != nil {
		return err
	}
	if err := os.Rename(d.path, doomed); err != nil {
		return fmt.Errorf("remove state: %w", err)
	}
	if err := os.RemoveAll(doomed); err != nil {
		return fmt.Errorf("remove state: %w", err)
	}
	return nil
}

// Close gives the lock up.
func (d *Dir) Close() error { return d.lock.Close() }
