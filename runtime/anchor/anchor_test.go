package anchor

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	go func() { os.Exit(m.Run()) }()
	Serve()
}

func init() { Main() }

func TestDoIsTheMainThread(t *testing.T) {
	failure := errors.New("failure")
	if err := Do(func() error {
		if unix.Gettid() != os.Getpid() {
			t.Error("not the main thread")
		}
		return failure
	}); !errors.Is(err, failure) {
		t.Error(err)
	}
}

// onThread runs f on a thread that nobody uses afterwards.
func onThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		f()
	}()
	<-done
}

func TestRootShowsMountsAndNothingElse(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	root, volume := t.TempDir(), t.TempDir()
	for _, d := range []string{"rw", "ro", "guest", "real"} {
		if err := os.Mkdir(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// A link that would lead out of the root, and one that stays inside.
	for link, target := range map[string]string{"escape": volume, "link": "/real"} {
		if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	onThread(func() {
		err := EnterRoot(Mount{Source: root, ReadOnly: true}, []Mount{
			{Destination: "/rw", Source: volume}, {Destination: "/ro", Source: volume, ReadOnly: true},
			{Destination: "/guest"}, {Destination: "/missing", Source: volume}, {Destination: "/escape/x", Source: volume},
			{Destination: "/link", Source: volume},
		})
		if err != nil {
			t.Error(err)
			return
		}
		for path, want := range map[string]bool{
			"/rw/a": true, "/link/b": true, "/ro/c": false, "/guest/d": false, "/top": false, "/missing/e": false, root + "/f": false,
		} {
			if err := os.WriteFile(path, nil, 0o600); (err == nil) != want {
				t.Errorf("%s: %v", path, err)
			}
		}
	})
	got, err := os.ReadDir(volume)
	if err != nil || len(got) != 2 {
		t.Errorf("%v, %v", got, err)
	}
	if left, err := os.ReadDir(filepath.Join(root, "rw")); err != nil || len(left) != 0 {
		t.Errorf("seen by the host: %v, %v", left, err)
	}
}

func TestRootThatIsNotThere(t *testing.T) {
	onThread(func() {
		if err := EnterRoot(Mount{Source: "/no/such/root"}, nil); err == nil {
			t.Error("entered nothing")
		}
	})
}
