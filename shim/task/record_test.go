package task

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/microvm/microvm/runtime/state"
)

func TestCleanKillsWhatIsRecorded(t *testing.T) {
	dir := t.TempDir()
	if pid, err := Clean(t.Context(), dir); pid != 0 || err != nil {
		t.Errorf("no machine: %d, %v", pid, err)
	}
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // it is killed
	}()
	vm, err := state.NewProcess(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	write := func(r record) {
		t.Helper()
		data, err := json.Marshal(r)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, recordFile), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	// Another process may have the pid by now.
	write(record{VM: state.Process{PID: vm.PID, StartTime: vm.StartTime + 1}})
	if _, err := Clean(t.Context(), dir); err != nil || !vm.Alive() {
		t.Errorf("another process: %v, alive: %v", err, vm.Alive())
	}
	write(record{VM: vm})
	if pid, err := Clean(t.Context(), dir); pid != vm.PID || err != nil {
		t.Errorf("%d, %v", pid, err)
	}
	<-ended
	if err := os.WriteFile(filepath.Join(dir, recordFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Clean(t.Context(), dir); err == nil {
		t.Error("a broken record")
	}
}
