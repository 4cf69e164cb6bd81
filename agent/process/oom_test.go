package process

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/cgroups"
)

func TestAwaitKills(t *testing.T) {
	cgroups.TestMode = true // the files are not in a cgroup
	defer func() { cgroups.TestMode = false }()
	dir := t.TempDir()
	// Each text of a file has the same length: none is seen in part.
	set := func(name, text string) {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		if _, err := f.WriteString(text); err != nil {
			t.Error(err)
		}
	}
	set("memory.events", "oom 3\noom_kill 2\n")
	set("cgroup.events", "populated 1\n")
	if n, err := awaitKills(t.Context(), dir, 1); n != 2 || err != nil {
		t.Errorf("known ones: %d, %v", n, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := awaitKills(ctx, dir, 2); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("no more: %v", err)
	}
	for _, change := range []struct {
		name, text string
		kills      uint64
	}{{"memory.events", "oom 4\noom_kill 3\n", 3}, {"cgroup.events", "populated 0\n", 3}} {
		time.AfterFunc(50*time.Millisecond, func() { set(change.name, change.text) })
		known := uint64(2)
		if change.name == "cgroup.events" {
			known = 3
		}
		if n, err := awaitKills(t.Context(), dir, known); n != change.kills || err != nil {
			t.Errorf("%s: %d, %v", change.name, n, err)
		}
	}
	if _, err := awaitKills(t.Context(), filepath.Join(dir, "gone"), 0); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no cgroup: %v", err)
	}
}
