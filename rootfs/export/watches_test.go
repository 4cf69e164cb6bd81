package export_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/agent/watch"
	"github.com/microvm/microvm/rootfs/export"
)

// What processes that watch files of a share are told of the host's doings. The
// agent is this process's, and so are the watchers.

// watched mounts back as rw, with an agent, and returns the path there.
func watched(t *testing.T, exports ...mountExport) string {
	t.Helper()
	mounted, ready := make(chan string), make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		thread := uint32(unix.Gettid())
		go func() { mounted <- mount(t, mountConfig{Agent: thread, Exports: exports}) }()
		dir := <-mounted
		relay, err := watch.New(dir)
		ready <- err
		mounted <- dir
		if err == nil {
			relay.Longest = 500 * time.Millisecond
			_ = relay.Run() // ends with the mount
		}
	}()
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	dir := <-mounted
	// The agent finds that nothing is watched any more, and lets go.
	t.Cleanup(func() { time.Sleep(time.Second) })
	return dir
}

// watcher has an inotify descriptor.
type watcher struct {
	t     *testing.T
	f     *os.File
	names map[int]string // of the watches
}

func newWatcher(t *testing.T, paths map[string]string) *watcher {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	w := &watcher{t: t, f: os.NewFile(uintptr(fd), "inotify"), names: map[int]string{}}
	t.Cleanup(func() { w.f.Close() })
	for name, path := range paths {
		wd, err := unix.InotifyAddWatch(fd, path, unix.IN_ALL_EVENTS&^(unix.IN_ACCESS|unix.IN_OPEN|unix.IN_CLOSE_NOWRITE))
		if err != nil {
			t.Fatal(err)
		}
		w.names[wd] = name
	}
	time.Sleep(time.Second) // the agent finds out
	return w
}

var eventNames = []struct {
	bit  uint32
	name string
}{
	{unix.IN_MODIFY, "modify"}, {unix.IN_ATTRIB, "attrib"}, {unix.IN_CLOSE_WRITE, "written"},
	{unix.IN_CREATE, "create"}, {unix.IN_DELETE, "delete"}, {unix.IN_MOVED_FROM, "from"}, {unix.IN_MOVED_TO, "to"},
	{unix.IN_DELETE_SELF, "delete-self"}, {unix.IN_MOVE_SELF, "move-self"}, {unix.IN_IGNORED, "ignored"}, {unix.IN_Q_OVERFLOW, "overflow"},
}

// read returns what comes until nothing has come for the given time, each as
// "kind watch/name".
func (w *watcher) read(quiet time.Duration) (said []string) {
	w.t.Helper()
	buf := make([]byte, 64<<10)
	for {
		if err := w.f.SetReadDeadline(time.Now().Add(quiet)); err != nil {
			w.t.Fatal(err)
		}
		n, err := w.f.Read(buf)
		if err != nil {
			return said
		}
		for b := buf[:n]; len(b) > 0; {
			e := b[:unix.SizeofInotifyEvent+binary.LittleEndian.Uint32(b[12:])]
			b = b[len(e):]
			said = append(said, w.describe(e))
		}
	}
}

func (w *watcher) describe(e []byte) string {
	mask := binary.LittleEndian.Uint32(e[4:])
	said := ""
	for _, n := range eventNames {
		if mask&n.bit != 0 {
			said += n.name
		}
	}
	if mask&unix.IN_ISDIR != 0 {
		said += "-dir"
	}
	said += " " + w.names[int(int32(binary.LittleEndian.Uint32(e)))]
	if name := unix.ByteSliceToString(e[unix.SizeofInotifyEvent:]); name != "" {
		said += "/" + name
	}
	return said
}

// do fails the test at an error.
func do(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestWatchersAreToldWhatTheHostDoes(t *testing.T) {
	back, other := t.TempDir(), t.TempDir()
	host := func(name string) string { return filepath.Join(back, name) }
	do(t, os.Mkdir(host("sub"), 0o755), os.Mkdir(host("gone"), 0o755), os.Mkdir(host("unwatched"), 0o755))
	for _, name := range []string{"old", "file", "alone", "single", "doomed", "replaced"} {
		write(t, host(name), name)
	}
	write(t, filepath.Join(other, "single"), "single")
	mnt := watched(t, mountExport{Name: "rw", Path: back}, mountExport{Name: "single", Path: filepath.Join(other, "single")})
	guest := func(name string) string { return filepath.Join(mnt, "rw", name) }
	w := newWatcher(t, map[string]string{
		"D": guest(""), "S": guest("sub"), "G": guest("gone"), "doomed": guest("doomed"), "replaced": guest("replaced"),
		"single": filepath.Join(mnt, "single"),
	})
	for _, c := range []struct {
		what string
		do   func()
		want []string
	}{
		{"made", func() { write(t, host("new"), "x") }, []string{"create D/new", "modify D/new", "written D/new"}},
		{"changed", func() { write(t, host("file"), "changed") }, []string{"modify D/file", "written D/file"}},
		{"attributes", func() { do(t, os.Chmod(host("file"), 0o600)) }, []string{"attrib D/file"}},
		{"attributes of a directory", func() { do(t, os.Chmod(host("sub"), 0o700)) }, []string{"attrib-dir D/sub", "attrib-dir S"}},
		{"removed", func() { do(t, os.Remove(host("old"))) }, []string{"delete D/old"}},
		{"renamed", func() { do(t, os.Rename(host("new"), host("newer"))) }, []string{"from D/new", "to D/newer"}},
		{"renamed over", func() { do(t, os.Rename(host("newer"), host("file"))) }, []string{"from D/newer", "to D/file"}},
		{"moved between", func() { do(t, os.Rename(host("file"), host("sub/file"))) }, []string{"from D/file", "to S/file"}},
		{"moved out", func() { do(t, os.Rename(host("sub/file"), host("unwatched/file"))) }, []string{"from S/file"}},
		{"moved in", func() { do(t, os.Rename(host("unwatched/file"), host("sub/back"))) }, []string{"to S/back"}},
		{"directory made", func() { do(t, os.Mkdir(host("dir"), 0o755)) }, []string{"create-dir D/dir"}},
		{"directory removed", func() { do(t, os.Remove(host("dir"))) }, []string{"delete-dir D/dir"}},
		{"link, fifo", func() { do(t, os.Symlink("x", host("l")), unix.Mkfifo(host("p"), 0o644)) }, []string{"create D/l", "create D/p"}},
		{"hard link", func() { do(t, os.Link(host("alone"), host("sub/link"))) }, []string{"create S/link"}},
		{"made and removed", func() { write(t, host("short"), ""); do(t, os.Remove(host("short"))) }, []string{"create D/short", "delete D/short"}},
		{"removed and made", func() { do(t, os.Remove(host("alone"))); write(t, host("alone"), "a") }, []string{"delete D/alone", "create D/alone", "modify D/alone", "written D/alone"}},
		{"watched file removed", func() { do(t, os.Remove(host("doomed"))) }, []string{"attrib doomed", "delete-self doomed", "ignored doomed", "delete D/doomed"}},
		{"watched file replaced", func() { write(t, host("sub/r"), "r"); do(t, os.Rename(host("sub/r"), host("replaced"))) },
			[]string{"create S/r", "from S/r", "to D/replaced", "attrib replaced", "delete-self replaced", "ignored replaced"}},
		{"watched directory renamed", func() { do(t, os.Rename(host("sub"), host("bus"))) }, []string{"from-dir D/sub", "to-dir D/bus", "move-self S"}},
		{"in the renamed directory", func() { write(t, host("bus/x"), "") }, []string{"create S/x", "written S/x"}},
		{"watched directory removed", func() { do(t, os.Remove(host("gone"))) }, []string{"delete-self G", "ignored G", "delete-dir D/gone"}},
		{"single file", func() { write(t, filepath.Join(other, "single"), "again") }, []string{"modify single", "written single"}},
	} {
		c.do()
		w.expect(c.what, c.want)
	}
	if left := strings.Fields(ls(t, guest(""))); !slices.Equal(left, strings.Fields(ls(t, back))) {
		t.Error("the guest lists", left)
	}
}

// expect waits for what is wanted, and fails if something else comes.
func (w *watcher) expect(what string, want []string) {
	w.t.Helper()
	var got []string
	for end := time.Now().Add(10 * time.Second); !sameEvents(got, want) && time.Now().Before(end); {
		got = append(got, w.read(50*time.Millisecond)...)
	}
	if got = append(got, w.read(100*time.Millisecond)...); !sameEvents(got, want) {
		w.t.Errorf("%s: %q, want %q", what, got, want)
	}
}

// sameEvents compares without order what comes from different watches, and
// counts neighbours that are alike once.
func sameEvents(got, want []string) bool {
	got, want = slices.Compact(slices.Clone(got)), slices.Clone(want)
	slices.Sort(got)
	slices.Sort(want)
	return slices.Equal(got, want)
}

func ls(t *testing.T, dir string) (list string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		list += fmt.Sprintf("%s:%s ", e.Name(), e.Type())
	}
	return list
}

// swap does what the kubelet does to a volume with a config map: it writes a new
// directory with the content, and renames a link to it over the old one.
func swap(t *testing.T, dir, old, now, content string) {
	t.Helper()
	at := func(name string) string { return filepath.Join(dir, name) }
	do(t, os.Mkdir(at(now), 0o755))
	write(t, at(now+"/key"), content)
	do(t, os.Symlink(now, at("..data_tmp")), os.Rename(at("..data_tmp"), at("..data")))
	if old != "" {
		do(t, os.RemoveAll(at(old)))
	} else {
		do(t, os.Symlink("..data/key", at("key")))
	}
}

func TestWatchersSeeTheKubeletsSwap(t *testing.T) {
	back := t.TempDir()
	swap(t, back, "", "..1", "one")
	guest := filepath.Join(watched(t, mountExport{Name: "ro", Path: back, Policy: export.Policy{ReadOnly: true}}), "ro")
	w := newWatcher(t, map[string]string{"D": guest, "key": filepath.Join(guest, "key")})
	if got := content(t, filepath.Join(guest, "key")); got != "one" {
		t.Fatal(got)
	}
	swap(t, back, "..1", "..2", "two")
	var got []string
	for end := time.Now().Add(10 * time.Second); !slices.Contains(got, "to D/..data") && time.Now().Before(end); {
		got = append(got, w.read(time.Millisecond)...)
	}
	if text := content(t, filepath.Join(guest, "key")); text != "two" {
		t.Errorf("after %q the key is %q", got, text)
	}
	got = append(got, w.read(time.Second)...)
	want := []string{"create-dir D/..2", "create D/..data_tmp", "from D/..data_tmp", "to D/..data", "attrib key", "delete-self key", "ignored key", "delete-dir D/..1"}
	if !sameEvents(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestAfterTheEventTheContentIsNew reads through an open file and a mapping, both
// of which have the old pages. The file keeps its length and its time of change, as
// if all were done within a tick of the host's clock.
func TestAfterTheEventTheContentIsNew(t *testing.T) {
	back := t.TempDir()
	path := filepath.Join(back, "file")
	write(t, path, "000")
	guest := filepath.Join(watched(t, mountExport{Name: "rw", Path: back}), "rw")
	f, err := os.Open(filepath.Join(guest, "file"))
	do(t, err)
	defer f.Close()
	m, err := unix.Mmap(int(f.Fd()), 0, 3, unix.PROT_READ, unix.MAP_SHARED)
	do(t, err)
	defer unix.Munmap(m)
	w := newWatcher(t, map[string]string{"D": guest})
	host, err := os.OpenFile(path, os.O_WRONLY, 0)
	do(t, err)
	defer host.Close()
	then := time.Now()
	for i := range 50 {
		want := fmt.Sprintf("%03d", i+1)
		_, err := host.WriteAt([]byte(want), 0)
		do(t, err, os.Chtimes(path, then, then))
		var got []string
		for end := time.Now().Add(10 * time.Second); !slices.Contains(got, "modify D/file") && time.Now().Before(end); {
			got = w.read(time.Millisecond)
		}
		var p [3]byte
		_, err = f.ReadAt(p[:], 0)
		do(t, err)
		if string(p[:]) != want || string(m) != want {
			t.Fatalf("after %q: read %q, mapped %q, want %q", got, p, m, want)
		}
	}
}

func TestAThousandFiles(t *testing.T) {
	const files = 1000
	back := t.TempDir()
	guest := filepath.Join(watched(t, mountExport{Name: "rw", Path: back}), "rw")
	w := newWatcher(t, map[string]string{"D": guest})
	began := time.Now()
	for i := range files {
		write(t, filepath.Join(back, fmt.Sprint(i)), "x")
	}
	seen := map[string]int{}
	for end := time.Now().Add(30 * time.Second); len(seen) < 3*files && time.Now().Before(end); {
		for _, e := range w.read(10 * time.Millisecond) {
			seen[e]++
		}
	}
	t.Log(time.Since(began))
	for i := range files {
		for _, kind := range []string{"create", "modify", "written"} {
			if seen[fmt.Sprintf("%s D/%d", kind, i)] == 0 {
				t.Fatalf("%s of file %d was not told", kind, i)
			}
		}
	}
}

// TestTheGuestsOwnChangesAreToldOnce counts the events of what the guest does.
func TestTheGuestsOwnChangesAreToldOnce(t *testing.T) {
	back := t.TempDir()
	guest := filepath.Join(watched(t, mountExport{Name: "rw", Path: back}), "rw")
	w := newWatcher(t, map[string]string{"D": guest})
	at := func(name string) string { return filepath.Join(guest, name) }
	write(t, at("a"), "x")
	do(t, os.Rename(at("a"), at("b")), os.Chmod(at("b"), 0o600), os.Mkdir(at("d"), 0o755), os.Remove(at("d")), os.Remove(at("b")))
	want := []string{"create D/a", "modify D/a", "written D/a", "from D/a", "to D/b", "attrib D/b", "create-dir D/d", "delete-dir D/d", "delete D/b"}
	if got := w.read(time.Second); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	write(t, filepath.Join(back, "host"), "x") // and the host's still are
	w.expect("the host's", []string{"create D/host", "modify D/host", "written D/host"})
}

// TestAWatchThatComesLater makes a directory and watches it then.
func TestAWatchThatComesLater(t *testing.T) {
	back := t.TempDir()
	guest := filepath.Join(watched(t, mountExport{Name: "rw", Path: back}), "rw")
	newWatcher(t, map[string]string{"D": guest})
	do(t, os.Mkdir(filepath.Join(back, "new"), 0o755))
	eventually(t, "new", func() bool { _, err := os.Stat(filepath.Join(guest, "new")); return err == nil })
	w := newWatcher(t, map[string]string{"N": filepath.Join(guest, "new")})
	write(t, filepath.Join(back, "new/file"), "")
	w.expect("in the new directory", []string{"create N/file", "written N/file"})
	do(t, os.RemoveAll(filepath.Join(back, "new")))
	w.expect("tree removed", []string{"delete N/file", "delete-self N", "ignored N"})
}
