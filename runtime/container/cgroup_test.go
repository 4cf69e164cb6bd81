package container

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/sirupsen/logrus"

	"github.com/microvm/microvm/runtime/bundle"
	"github.com/microvm/microvm/runtime/cgroup"
	"github.com/microvm/microvm/runtime/state"
)

// TestStaleCgroupIsRemoved registers a container whose id a dead monitor has
// left, with another cgroup.
func TestStaleCgroupIsRemoved(t *testing.T) {
	const name = "microvm-unit-test-stale"
	c, err := cgroup.New("a", "/"+name, false)
	if err == nil {
		err = c.Join()
	}
	if errors.Is(err, cgroup.ErrUnusable) {
		t.Skipf("needs cgroups to write to: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Leave(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Remove() })
	record := c.Record()
	store := state.Store{Root: t.TempDir()}
	d, err := store.Create(&state.State{ID: "a", Status: specs.StateCreating, Cgroup: &record})
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
	s := &supervisor{
		engine:  &Engine{Store: store, Log: logrus.NewEntry(logrus.New())},
		request: CreateRequest{ID: "a"},
		design:  &design{bundle: &bundle.Bundle{Dir: t.TempDir(), Spec: &specs.Spec{Root: &specs.Root{Path: "rootfs"}}}},
	}
	if err := s.register(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, dir := range record.Paths {
		if _, err := os.Stat(dir); err == nil && filepath.Base(dir) == name {
			t.Errorf("%s is left", dir)
		}
	}
}
