package task

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/runtime/cgroup"
	"github.com/microvm/microvm/runtime/state"
)

// recordFile is a machine's record in its bundle.
const recordFile = "machine.json"

// record is what is left to find when the shim is gone.
type record struct {
	VM     state.Process  `json:"vm"`
	Cgroup *cgroup.Record `json:"cgroup,omitempty"`
}

func (m *machine) save(r record) error {
	if m.cgroup != nil {
		c := m.cgroup.Record()
		r.Cgroup = &c
	}
	data, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode machine's record: %w", err)
	}
	if err := state.WriteFile(filepath.Join(m.dir, recordFile), data); err != nil {
		return fmt.Errorf("write machine's record: %w", err)
	}
	return nil
}

// Clean removes what is left of the machine that was recorded in the bundle
// dir, and returns the pid that its VM process had, 0 if there was none.
func Clean(ctx context.Context, dir string) (pid int, err error) {
	data, err := os.ReadFile(filepath.Join(dir, recordFile))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	var r record
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	if err != nil {
		return 0, fmt.Errorf("read machine's record: %w", err)
	}
	if r.VM.PID != 0 && r.VM.Alive() {
		if err := r.VM.Signal(unix.SIGKILL); err == nil {
			_ = r.VM.Wait(ctx) // its cgroup says if it is still there
		}
	}
	if r.Cgroup == nil {
		return r.VM.PID, nil
	}
	return r.VM.PID, r.Cgroup.Remove()
}
