package state

import "os"

// WriteFile replaces a file at once: who reads it gets the old content or the
// new. Like the state itself it is not synced.
func WriteFile(path string, data []byte) error {
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
