package process

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestAwaitKills(t *testing.T) {
	dir := t.TempDir()
	set := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
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
		time.AfterFunc(50*time.Millisecond, func() {
			_ = os.WriteFile(filepath.Join(dir, change.name), []byte(change.text), 0o644)
		})
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
