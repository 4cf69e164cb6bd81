package export_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What the host and the guest see of each other's changes.

// eventually repeats f until it is content; it fails after ten seconds, which
// is far more than any lifetime.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !f(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("never seen: ", what)
		}
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestHostsChangesAreSeen(t *testing.T) {
	back := t.TempDir()
	host := func(name string) string { return filepath.Join(back, name) }
	write(t, host("a"), "one")
	mnt := filepath.Join(mount(t, mountConfig{Exports: []mountExport{{Name: "rw", Path: back}}}), "rw")
	guest := func(name string) string { return filepath.Join(mnt, name) }
	// The same length within the same tick of the clock: only a fresh open
	// shows it, and at once.
	for i := range 50 {
		s := fmt.Sprintf("%03d", i)
		write(t, host("a"), s)
		if got := content(t, guest("a")); got != s {
			t.Fatalf("read %q after %q was written", got, s)
		}
	}
	if _, err := os.Stat(guest("b")); !os.IsNotExist(err) {
		t.Fatal(err)
	}
	write(t, host("b"), "new")
	if got := content(t, guest("b")); got != "new" { // names that are not there are not cached
		t.Fatal(got)
	}
	if err := os.Rename(host("b"), host("a")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "rename", func() bool { return content(t, guest("a")) == "new" })
	eventually(t, "no b", func() bool { _, err := os.Stat(guest("b")); return os.IsNotExist(err) })
	write(t, guest("a"), "from the guest")
	if got := content(t, host("a")); got != "from the guest" {
		t.Fatal(got)
	}
	// Names are cached, content is not kept against a change.
	f, err := os.OpenFile(guest("a"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	write(t, host("a"), "longer than it was before")
	eventually(t, "size", func() bool { st, err := f.Stat(); return err == nil && st.Size() == 25 })
}

func TestTimeOfBirth(t *testing.T) {
	back := t.TempDir()
	mnt := mount(t, mountConfig{Exports: []mountExport{{Name: "rw", Path: back}}})
	write(t, filepath.Join(mnt, "rw/file"), "born")
	var host, guest unix.Statx_t
	for path, st := range map[string]*unix.Statx_t{back: &host, filepath.Join(mnt, "rw"): &guest} {
		if err := unix.Statx(unix.AT_FDCWD, filepath.Join(path, "file"), 0, unix.STATX_BTIME, st); err != nil {
			t.Fatal(err)
		}
	}
	if host.Mask&unix.STATX_BTIME == 0 {
		t.Skip("the host's file system has no time of birth")
	}
	if guest.Mask&unix.STATX_BTIME == 0 || guest.Btime.Sec != host.Btime.Sec || guest.Btime.Nsec != host.Btime.Nsec {
		t.Errorf("born at %v, on the host %v", guest.Btime, host.Btime)
	}
}

func TestHardLinksAndNumbersOnSeveralFileSystems(t *testing.T) {
	back, other := t.TempDir(), t.TempDir()
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	if err := unix.Mount("tmpfs", other, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(other, unix.MNT_DETACH)
	if err := os.Mkdir(filepath.Join(back, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	mnt := mount(t, mountConfig{Exports: []mountExport{{Name: "a", Path: back}, {Name: "b", Path: other}, {Name: "again", Path: back}}})
	numbers := map[uint64]string{}
	for _, export := range []string{"a", "b"} {
		for i := range 20 {
			path := filepath.Join(mnt, export, fmt.Sprint(i))
			write(t, path, path)
			var st unix.Stat_t
			if err := unix.Stat(path, &st); err != nil {
				t.Fatal(err)
			}
			if numbers[st.Ino] != "" {
				t.Errorf("%s and %s have number %d", numbers[st.Ino], path, st.Ino)
			}
			numbers[st.Ino] = path
		}
	}
	link := filepath.Join(mnt, "a", "link")
	if err := os.Link(filepath.Join(mnt, "a", "1"), link); err != nil {
		t.Fatal(err)
	}
	one, _ := os.Stat(filepath.Join(mnt, "again", "1"))
	two, err := os.Stat(link)
	if err != nil || !os.SameFile(one, two) {
		t.Error("a link is another file:", err)
	}
	for _, to := range []string{"b/moved", "again/moved"} {
		if err := os.Rename(link, filepath.Join(mnt, to)); err == nil || err.(*os.LinkError).Err != unix.EXDEV {
			t.Errorf("rename to %s: %v", to, err)
		}
	}
}

// TestListingIsStable reads a directory in small pieces while it changes: what
// is there all the time is listed once.
func TestListingIsStable(t *testing.T) {
	back := t.TempDir()
	const files = 5000
	for i := range files {
		write(t, filepath.Join(back, fmt.Sprintf("stays-%d", i)), "")
	}
	mnt := filepath.Join(mount(t, mountConfig{Exports: []mountExport{{Name: "rw", Path: back}}}), "rw")
	d, err := os.Open(mnt)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	seen := map[string]int{}
	for i := 0; ; i++ {
		names, err := d.Readdirnames(7)
		for _, n := range names {
			seen[n]++
		}
		if err != nil {
			break
		}
		if i%10 == 0 {
			write(t, filepath.Join(mnt, fmt.Sprintf("comes-%d", i)), "")
			_ = os.Remove(filepath.Join(mnt, fmt.Sprintf("comes-%d", i-50)))
		}
	}
	for i := range files {
		if n := seen[fmt.Sprintf("stays-%d", i)]; n != 1 {
			t.Fatalf("file %d was listed %d times", i, n)
		}
	}
}
