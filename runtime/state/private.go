package state

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
)

// privateMark is in the name of a directory on its way in or out, behind the
// container's id, in which it can't be. Behind it is the process whose it is.
const privateMark = "~"

var privateNames atomic.Uint64

// privateName is one next to path that is this process's alone.
func privateName(path string) (string, error) {
	p, err := NewProcess(os.Getpid())
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s%s%d-%d-%d", path, privateMark, p.PID, p.StartTime, privateNames.Add(1)), nil
}

// abandoned tells whether a directory has such a name, of a process that is gone.
func abandoned(name string) bool {
	_, owner, private := strings.Cut(name, privateMark)
	var p Process
	var n uint64
	_, err := fmt.Sscanf(owner, "%d-%d-%d", &p.PID, &p.StartTime, &n)
	return private && (err != nil || !p.Alive())
}

// sweep removes what processes were making or removing when they were killed.
func (st Store) sweep() error {
	entries, err := os.ReadDir(st.Root)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find leftovers: %w", err)
	}
	for _, e := range entries {
		if !abandoned(e.Name()) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(st.Root, e.Name())); err != nil {
			return fmt.Errorf("remove leftover: %w", err)
		}
	}
	return nil
}
