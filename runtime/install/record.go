package install

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Names in lib/microvm.
const (
	recordName = "install.json"
	// beforeName is a directory with what was there before.
	beforeName = "before"
)

// record is what was done, in this order.
type record struct {
	Dirs  []string `json:"dirs"` // that did not exist
	Files []entry  `json:"files"`
}

// entry is a file that was written.
type entry struct {
	Path   string `json:"path"`
	Config bool   `json:"config,omitempty"`
	// Sum is of what was written.
	Sum      string `json:"sha256"`
	Inserted string `json:"inserted,omitempty"`
	// Before is the file with what was there, "" for nothing.
	Before string      `json:"before,omitempty"`
	Mode   fs.FileMode `json:"mode,omitempty"` // of what was there
}

func sum(content []byte) string {
	s := sha256.Sum256(content)
	return hex.EncodeToString(s[:])
}

func (r record) byPath() map[string]entry {
	all := map[string]entry{}
	for _, e := range r.Files {
		all[e.Path] = e
	}
	return all
}

func recordPath(prefix string) string { return filepath.Join(libDir(prefix), recordName) }

// loadRecord returns an empty one when nothing is installed.
func loadRecord(prefix string) (r record, err error) {
	data, err := os.ReadFile(recordPath(prefix))
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	if err != nil {
		return r, fmt.Errorf("read record of the installation: %w", err)
	}
	return r, nil
}

func (r record) save(prefix string) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		err = writeFile(recordPath(prefix), data, 0o644)
	}
	if err != nil {
		return fmt.Errorf("write record of the installation: %w", err)
	}
	return nil
}

// writeFile replaces a file at once, or not at all.
func writeFile(path string, content []byte, mode fs.FileMode) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		f.Close()
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if _, err = f.Write(content); err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	return err
}
