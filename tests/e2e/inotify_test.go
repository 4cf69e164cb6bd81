package e2e

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/tests/command"
	"github.com/microvm/microvm/tests/lab/labtest"
)

// inotifyNames are the events that are printed, in the order of their bits.
var inotifyNames = []struct {
	bit  uint32
	name string
}{
	{unix.IN_MODIFY, "modify"}, {unix.IN_ATTRIB, "attrib"}, {unix.IN_CLOSE_WRITE, "written"},
	{unix.IN_MOVED_FROM, "from"}, {unix.IN_MOVED_TO, "to"}, {unix.IN_CREATE, "create"}, {unix.IN_DELETE, "delete"},
	{unix.IN_DELETE_SELF, "delete-self"}, {unix.IN_MOVE_SELF, "move-self"},
}

// printEvents watches the given paths and prints a line for each event, with the
// content of the file "key" in the watched directory, if there is one.
func printEvents(paths []string) error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		return err
	}
	watched := map[int32]string{}
	var mask uint32
	for _, n := range inotifyNames {
		mask |= n.bit
	}
	for _, path := range paths {
		wd, err := unix.InotifyAddWatch(fd, path, mask)
		if err != nil {
			return fmt.Errorf("watch %s: %w", path, err)
		}
		watched[int32(wd)] = path
	}
	fmt.Println("ready")
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.Read(fd, buf)
		if err != nil {
			return err
		}
		for b := buf[:n]; len(b) > 0; {
			e := b[:unix.SizeofInotifyEvent+binary.LittleEndian.Uint32(b[12:])]
			b = b[len(e):]
			dir := watched[int32(binary.LittleEndian.Uint32(e))]
			name := unix.ByteSliceToString(e[unix.SizeofInotifyEvent:])
			key, _ := os.ReadFile(filepath.Join(dir, "key"))
			for _, n := range inotifyNames {
				if binary.LittleEndian.Uint32(e[4:])&n.bit != 0 {
					fmt.Println(n.name, filepath.Join(dir, name), string(key))
				}
			}
		}
	}
}

// TestInotify changes on the host what a process in the container watches.
func TestInotify(t *testing.T) {
	labtest.SameOnBoth(t)
	s := newSite(t)
	volume := filepath.Join(s.dir, "volume")
	mountTmpfs(t, volume, 0) // in the lab, the rest is on an overlay without file handles
	at := func(name string) string { return filepath.Join(volume, name) }
	single := at("one/single")
	must := func(errs ...error) {
		t.Helper()
		for _, err := range errs {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	write := func(path, text string) { t.Helper(); must(os.WriteFile(path, []byte(text), 0o644)) }
	must(os.Mkdir(at("v"), 0o755), os.Mkdir(at("one"), 0o755), os.MkdirAll(at("map/..1"), 0o755))
	write(at("v/file"), "old")
	write(single, "old")
	write(at("map/..1/key"), "one")
	must(os.Symlink("..1", at("map/..data")), os.Symlink("..data/key", at("map/key")))

	id, _, stdout := s.detached(s.withProgram(s.bundle([]string{programName, "inotify", "/v", "/map", "/single", "/map/key"}, func(spec *specs.Spec) {
		spec.Mounts = append(spec.Mounts, bind(at("v"), "/v"), bind(at("map"), "/map", "ro"), bind(single, "/single"))
	})))
	defer s.command("delete", "--force", id).Run() // before its volume
	lines := func() []string {
		out, err := os.ReadFile(stdout)
		must(err)
		return strings.Split(strings.TrimSpace(strings.ReplaceAll(string(out), " \n", "\n")), "\n")
	}
	command.Eventually(t, "the watches are there", func() bool { return lines()[0] == "ready" })
	for _, path := range []string{at("v"), at("map"), single} { // the agent has seen them
		command.Eventually(t, path+" is watched", func() bool {
			must(os.Chmod(path, 0o755))
			return slices.ContainsFunc(lines(), func(l string) bool { return strings.HasPrefix(l, "attrib /"+filepath.Base(path)) })
		})
	}
	time.Sleep(500 * time.Millisecond)
	seen := len(lines())
	expect := func(what string, want ...string) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); time.Now().Before(end) && len(lines())-seen < len(want); {
			time.Sleep(20 * time.Millisecond)
		}
		time.Sleep(200 * time.Millisecond)
		got := slices.Compact(slices.Sorted(slices.Values(lines()[seen:]))) // two writes may be two events or one
		if slices.Sort(want); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
		seen = len(lines())
	}
	write(at("v/new"), "x")
	expect("made", "create /v/new", "modify /v/new", "written /v/new")
	must(os.Rename(at("v/new"), at("v/file")))
	expect("renamed over", "from /v/new", "to /v/file")
	must(os.Remove(at("v/file")))
	expect("removed", "delete /v/file")
	write(single, "changed")
	expect("single file", "modify /single", "written /single")
	s.command("exec", id, "sh", "-c", "echo x > /v/own; mv /v/own /v/guest; rm /v/guest").Output()
	time.Sleep(time.Second)
	expect("by the container", "create /v/own", "modify /v/own", "written /v/own", "from /v/own", "to /v/guest", "delete /v/guest")

	must(os.Mkdir(at("map/..2"), 0o755))
	write(at("map/..2/key"), "two")
	must(os.Symlink("..2", at("map/..data_tmp")), os.Rename(at("map/..data_tmp"), at("map/..data")), os.RemoveAll(at("map/..1")))
	command.Eventually(t, "the kubelet's swap", func() bool { return slices.Contains(lines(), "delete /map/..1 two") })
	for _, want := range []string{"to /map/..data two", "delete-self /map/key"} {
		command.Eventually(t, want, func() bool { return slices.Contains(lines(), want) })
	}

	const files = 100
	for i := range files {
		write(at(fmt.Sprint("v/", i)), "")
	}
	command.Eventually(t, "many files", func() bool {
		created := 0
		for _, l := range lines() {
			if strings.HasPrefix(l, "create /v/") {
				created++
			}
		}
		return created == files+2
	})
}
