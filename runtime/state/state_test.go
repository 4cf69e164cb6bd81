package state

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func self(t *testing.T) Process {
	t.Helper()
	p, err := NewProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// child starts a process that waits for its end.
func child(t *testing.T) (Process, func()) {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := NewProcess(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	end := sync.OnceFunc(func() { cmd.Process.Kill(); cmd.Wait() })
	t.Cleanup(end)
	return p, end
}

func TestIDs(t *testing.T) {
	for id, ok := range map[string]bool{
		"a": true, "A-b_c+d.e": true, "0": true, "...": true,
		"": false, ".": false, "..": false, "a/b": false, "/": false, "a b": false, "ä": false, "a\x00": false, "../x": false,
		string(make([]byte, 300)): false,
	} {
		if err := ValidateID(id); (err == nil) != ok {
			t.Errorf("%q: %v", id, err)
		}
	}
}

func TestStatusFollowsTheMonitor(t *testing.T) {
	st := Store{Root: filepath.Join(t.TempDir(), "deep", "root")}
	monitor, end := child(t)
	d, err := st.Create(&State{ID: "a", Status: specs.StateRunning, Monitor: monitor})
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
	s, err := st.Load("a")
	if err != nil || s.Current() != specs.StateRunning {
		t.Fatal(s, err)
	}
	end()
	if s.Current() != specs.StateStopped || s.Stale() {
		t.Error(s.Current(), s.Stale())
	}
	if _, err := st.Create(&State{ID: "a"}); !errors.Is(err, ErrExists) {
		t.Error(err)
	}
}

func TestStaleLeftoversAreReplaced(t *testing.T) {
	st := Store{Root: t.TempDir()}
	monitor, end := child(t)
	d, err := st.Create(&State{ID: "a", Status: specs.StateCreating, Monitor: monitor})
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
	if _, err := st.Create(&State{ID: "a"}); !errors.Is(err, ErrExists) {
		t.Fatal("a container in the making was replaced:", err)
	}
	end()
	if d, err = st.Create(&State{ID: "a", Monitor: self(t)}); err != nil {
		t.Fatal(err)
	}
	d.Close()
	// A directory without a state is nobody's.
	if err := os.Mkdir(filepath.Join(st.Root, "b"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Open("b"); !errors.Is(err, ErrNotExist) {
		t.Fatal(err)
	}
	if d, err = st.Create(&State{ID: "b"}); err != nil {
		t.Fatal(err)
	}
	d.Close()
}

func TestRemoveWhileOthersWaitForTheLock(t *testing.T) {
	st := Store{Root: t.TempDir()}
	d, err := st.Create(&State{ID: "a"})
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan error)
	go func() {
		_, err := st.Open("a")
		got <- err
	}()
	time.Sleep(20 * time.Millisecond) // the other one is likely to wait by now
	if err := d.Remove(); err != nil {
		t.Fatal(err)
	}
	d.Close()
	if err := <-got; !errors.Is(err, ErrNotExist) {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(st.Root, "a")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// TestOnlyOneCreatorWins has many creators race for an id: a free one, one with a
// stale leftover, one whose directory is empty.
func TestOnlyOneCreatorWins(t *testing.T) {
	gone, end := child(t)
	end()
	for name, prepare := range map[string]func(t *testing.T, st Store){
		"free": func(*testing.T, Store) {},
		"stale": func(t *testing.T, st Store) {
			d, err := st.Create(&State{ID: "a", Status: specs.StateCreating, Monitor: gone})
			if err != nil {
				t.Fatal(err)
			}
			d.Close()
		},
		"empty": func(t *testing.T, st Store) {
			if err := os.MkdirAll(filepath.Join(st.Root, "a"), 0o700); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			for range 10 {
				st := Store{Root: t.TempDir()}
				prepare(t, st)
				raceToCreate(t, st)
			}
		})
	}
}

func raceToCreate(t *testing.T, st Store) {
	t.Helper()
	var won atomic.Int32
	var wg sync.WaitGroup
	monitor := self(t)
	for range 16 {
		wg.Go(func() {
			d, err := st.Create(&State{ID: "a", Status: specs.StateCreating, Monitor: monitor})
			if err == nil {
				won.Add(1)
				d.Close()
			} else if !errors.Is(err, ErrExists) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Fatalf("%d winners", won.Load())
	}
	if left := names(t, st); !slices.Equal(left, []string{"a"}) {
		t.Fatalf("in the root: %v", left)
	}
	if s, err := st.Load("a"); err != nil || s.Monitor != monitor {
		t.Fatal(s, err)
	}
}

// TestWhatKilledProcessesLeft checks that it is removed by the next creator of any
// container, and by the removal of what is broken, but not from under the living.
func TestWhatKilledProcessesLeft(t *testing.T) {
	st := Store{Root: t.TempDir()}
	p, end := child(t)
	theirs := fmt.Sprintf("b~%d-%d-1", p.PID, p.StartTime)
	leave := func(names ...string) {
		for _, name := range names {
			if err := os.MkdirAll(filepath.Join(st.Root, name, "sub"), 0o700); err != nil {
				t.Fatal(err)
			}
		}
	}
	leave(theirs, "c~", "d~what")
	d, err := st.Create(&State{ID: "a"})
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
	if left := names(t, st); !slices.Equal(left, []string{"a", theirs}) {
		t.Errorf("in the root: %v", left)
	}
	if ids, err := st.List(); err != nil || !slices.Equal(ids, []string{"a"}) {
		t.Error(ids, err)
	}
	end()
	if err := st.RemoveBroken("x"); err != nil {
		t.Error(err)
	}
	if left := names(t, st); !slices.Equal(left, []string{"a"}) {
		t.Errorf("in the root: %v", left)
	}
}

func names(t *testing.T, st Store) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(st.Root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func TestPIDThatWasReusedIsNotTheProcess(t *testing.T) {
	p := self(t)
	if !p.Alive() {
		t.Fatal("the test is dead")
	}
	p.StartTime++
	if p.Alive() || !errors.Is(p.Signal(unix.SIGKILL), os.ErrProcessDone) {
		t.Error("another process was taken for it")
	}
	if err := p.Wait(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestWaitForAProcess(t *testing.T) {
	p, end := child(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := p.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	go end()
	if err := p.Wait(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestBrokenStateIsReported(t *testing.T) {
	st := Store{Root: t.TempDir()}
	d, err := st.Create(&State{ID: "a"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.Path(stateFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.Close()
	if _, err := st.Load("a"); err == nil || errors.Is(err, ErrNotExist) {
		t.Error(err)
	}
	if ids, err := st.List(); err != nil || len(ids) != 1 {
		t.Error(ids, err)
	}
}
