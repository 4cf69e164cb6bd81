package e2e

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Who has the files of the steps: nobody is told apart from root by name only.
const (
	alice, bob = 1000, 1001
	team       = 2000 // a group that is no user's own
)

// fileStep is what one user does in a directory. It says what a local file system and
// a shared one have to say alike.
type fileStep struct {
	name     string
	uid, gid uint32
	groups   []uint32
	do       func(dir string) (string, error)
}

// as makes a step of a user whose group has the same number.
func as(user uint32, name string, do func(dir string) (string, error), groups ...uint32) fileStep {
	return fileStep{name, user, user, groups, do}
}

// fileSteps are done in this order.
var fileSteps = []fileStep{
	as(0, "prepare", prepareFiles),
	as(alice, "read a file of a supplementary group", readIn("team-reads"), team),
	as(alice, "write what the group only reads", openIn("team-reads", os.O_WRONLY), team),
	as(bob, "read a file of somebody else's group", readIn("team-reads")),
	as(alice, "make a program in the group's directory", makeIn("team/program", 0o2755), team),
	as(bob, "make a file in somebody else's directory", makeIn("team/file", 0o644)),
	as(alice, "make a directory in the group's", makeDirIn("team/dir"), team),
	as(alice, "give a file to the group", giveTo("own", team), team),
	as(alice, "give a file to a group that one is not in", giveTo("own", team+1), team),
	as(alice, "set the group's bit", chmodIn("own", 0o2755), team),
	as(bob, "set the bit of a group that one is not in", chmodIn("of-team", 0o2755)),
	as(bob, "remove what is alice's from a sticky directory", removeIn("sticky/alices")),
	as(alice, "remove one's own from it", removeIn("sticky/alices")),

	as(alice, "write a set-uid file", changeSetID(writeTo)),
	as(0, "write a set-uid file as root", changeSetID(writeTo)),
	as(alice, "truncate a set-uid file", changeSetID(func(path string) error { return os.Truncate(path, 1) })),
	as(alice, "open a set-uid file with O_TRUNC", changeSetID(func(path string) error { return os.WriteFile(path, nil, 0) })),
	as(alice, "allocate room in a set-uid file", changeSetID(allocateIn)),
	as(0, "change the owner of a set-uid file", changeSetID(func(path string) error { return os.Chown(path, bob, alice) })),

	as(0, "rename a file with capabilities", changeCapable(func(path string) error {
		return errors.Join(os.Rename(path, path+".new"), os.Rename(path+".new", path))
	})),
	as(0, "write a file with capabilities", changeCapable(writeTo)),
	as(0, "truncate a file with capabilities", changeCapable(func(path string) error { return os.Truncate(path, 1) })),
	as(0, "change the owner of a file with capabilities", changeCapable(func(path string) error { return os.Chown(path, alice, alice) })),

	as(alice, "read one's own without a trace", timeOfReading("alices", unix.O_NOATIME)),
	as(bob, "read alice's without a trace", timeOfReading("alices", unix.O_NOATIME)),
	as(alice, "read bob's", timeOfReading("of-team", 0)),

	as(0, "poll a file", pollFile),
	as(0, "select a file", selectFile),
	as(0, "poll a pipe", pollPipe),
}

func prepareFiles(dir string) (string, error) {
	at := func(name string) string { return filepath.Join(dir, name) }
	err := errors.Join(os.Chmod(dir, 0o777), os.Mkdir(at("team"), 0), os.Mkdir(at("sticky"), 0))
	for _, name := range []string{"team-reads", "of-team", "own", "alices", "sticky/alices"} {
		err = errors.Join(err, os.WriteFile(at(name), []byte("text"), 0o644))
	}
	return "", errors.Join(err,
		os.Chown(at("team"), 0, team), os.Chmod(at("team"), os.ModeSetgid|0o770), os.Chmod(at("sticky"), os.ModeSticky|0o777),
		os.Chown(at("team-reads"), 0, team), os.Chmod(at("team-reads"), 0o640),
		os.Chown(at("of-team"), bob, team), os.Chown(at("own"), alice, alice),
		os.Chown(at("alices"), alice, alice), os.Chown(at("sticky/alices"), alice, alice),
		os.Chtimes(at("alices"), longAgo, longAgo), os.Chtimes(at("of-team"), longAgo, longAgo))
}

// longAgo is a time of access that the next one changes on a mount with relatime.
var longAgo = time.Unix(1_000_000_000, 0)

func readIn(name string) func(string) (string, error) {
	return func(dir string) (string, error) {
		b, err := os.ReadFile(filepath.Join(dir, name))
		return string(b), err
	}
}

func openIn(name string, flags int) func(string) (string, error) {
	return func(dir string) (string, error) {
		f, err := os.OpenFile(filepath.Join(dir, name), flags, 0)
		if err == nil {
			err = f.Close()
		}
		return "", err
	}
}

// describe tells who has the file and what may be done with it.
func describe(path string) (string, error) {
	var st unix.Stat_t
	err := unix.Lstat(path, &st)
	return fmt.Sprintf("%#o of %d:%d, %d bytes", st.Mode, st.Uid, st.Gid, st.Size), err
}

func makeIn(name string, mode uint32) func(string) (string, error) {
	return func(dir string) (string, error) {
		unix.Umask(0)
		path := filepath.Join(dir, name)
		fd, err := unix.Open(path, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, mode)
		if err != nil {
			return "", err
		}
		said, err := describe(path)
		return said, errors.Join(err, unix.Close(fd))
	}
}

func makeDirIn(name string) func(string) (string, error) {
	return func(dir string) (string, error) {
		path := filepath.Join(dir, name)
		if err := unix.Mkdir(path, 0o755); err != nil {
			return "", err
		}
		return describe(path)
	}
}

func giveTo(name string, group int) func(string) (string, error) {
	return func(dir string) (string, error) {
		path := filepath.Join(dir, name)
		if err := os.Chown(path, -1, group); err != nil {
			return "", err
		}
		return describe(path)
	}
}

func chmodIn(name string, mode uint32) func(string) (string, error) {
	return func(dir string) (string, error) {
		path := filepath.Join(dir, name)
		if err := unix.Chmod(path, mode); err != nil {
			return "", err
		}
		return describe(path)
	}
}

func removeIn(name string) func(string) (string, error) {
	return func(dir string) (string, error) { return "", os.Remove(filepath.Join(dir, name)) }
}

// writeTo writes over the start of a file.
func writeTo(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString("new")
	return errors.Join(err, f.Close())
}

func allocateIn(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(unix.Fallocate(int(f.Fd()), 0, 0, 4096), f.Close())
}

// changeSetID changes a file of the caller's, or alice's if that is root, which has
// both set-id bits.
func changeSetID(change func(path string) error) func(string) (string, error) {
	return func(dir string) (string, error) {
		path := filepath.Join(dir, fmt.Sprint("set-id-", os.Getuid()))
		err := errors.Join(os.WriteFile(path, []byte("text"), 0o755), os.Chown(path, alice, alice), unix.Chmod(path, 0o6755))
		if err := errors.Join(err, change(path)); err != nil {
			return "", err
		}
		said, err := describe(path)
		return said, errors.Join(err, os.Remove(path))
	}
}

// changeCapable changes a file that has a capability, and says whether it still has.
func changeCapable(change func(path string) error) func(string) (string, error) {
	return func(dir string) (string, error) {
		path := filepath.Join(dir, "capable")
		// struct vfs_cap_data: revision 2, effective, CAP_NET_BIND_SERVICE
		value := binary.LittleEndian.AppendUint32(nil, 0x02000001)
		value = append(binary.LittleEndian.AppendUint32(value, 1<<unix.CAP_NET_BIND_SERVICE), make([]byte, 12)...)
		err := errors.Join(os.WriteFile(path, []byte("text"), 0o755), unix.Setxattr(path, "security.capability", value, 0))
		if err := errors.Join(err, change(path)); err != nil {
			return "", err
		}
		got := make([]byte, 64)
		n, err := unix.Getxattr(path, "security.capability", got)
		if err != nil && err != unix.ENODATA {
			return "", err
		}
		return fmt.Sprintf("%x", got[:max(n, 0)]), os.Remove(path)
	}
}

// timeOfReading reads a file that was last read long ago, and says whether that shows.
func timeOfReading(name string, flags int) func(string) (string, error) {
	return func(dir string) (string, error) {
		fd, err := unix.Open(filepath.Join(dir, name), unix.O_RDONLY|flags, 0)
		if err != nil {
			return "", err
		}
		defer unix.Close(fd)
		var p [4]byte
		if _, err := unix.Read(fd, p[:]); err != nil {
			return "", err
		}
		var st unix.Statx_t
		err = unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_FORCE_SYNC, unix.STATX_ATIME, &st)
		return fmt.Sprintf("%q, it shows: %v", p, time.Since(time.Unix(st.Atime.Sec, 0)) < time.Hour), err
	}
}

func pollFile(dir string) (string, error) {
	f, err := os.OpenFile(filepath.Join(dir, "own"), os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	fds := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLIN | unix.POLLOUT | unix.POLLPRI}}
	n, err := unix.Poll(fds, 10_000)
	return fmt.Sprintf("%d: %#x", n, fds[0].Revents), err
}

func selectFile(dir string) (string, error) {
	f, err := os.OpenFile(filepath.Join(dir, "own"), os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	var r, w unix.FdSet
	r.Set(int(f.Fd()))
	w.Set(int(f.Fd()))
	n, err := unix.Select(int(f.Fd())+1, &r, &w, nil, &unix.Timeval{Sec: 10})
	return fmt.Sprint(n, r.IsSet(int(f.Fd())), w.IsSet(int(f.Fd()))), err
}

// pollPipe polls a named pipe before and after there is something in it.
func pollPipe(dir string) (string, error) {
	path := filepath.Join(dir, "pipe")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return "", err
	}
	defer os.Remove(path)
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	said := ""
	for range 2 {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		said += fmt.Sprintf("%d: %#x ", n, fds[0].Revents)
		if _, werr := unix.Write(fd, []byte("x")); err != nil || werr != nil {
			return "", errors.Join(err, werr)
		}
	}
	return said, nil
}

// thisProgram calls it whoever may not search the directories on its path.
func thisProgram(args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Args[0] = programName
	return cmd
}

// doFileSteps has every step done in dir, each by a process of its user.
func doFileSteps(dir string) error {
	for _, s := range fileSteps {
		cmd := thisProgram("file step", s.name, dir)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: s.uid, Gid: s.gid, Groups: s.groups}}
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s: %w: %s", s.name, err, out)
		}
		fmt.Printf("%s: %s\n", s.name, bytes.TrimSpace(out))
	}
	return nil
}

// doFileStep is a process of doFileSteps. An errno is a result.
func doFileStep(name, dir string) error {
	for _, s := range fileSteps {
		if s.name != name {
			continue
		}
		said, err := s.do(dir)
		var errno unix.Errno
		if errors.As(err, &errno) && name != "prepare" {
			said, err = unix.ErrnoName(errno), nil
		}
		fmt.Println(said)
		return err
	}
	return fmt.Errorf("no step %q", name)
}

// TestFilesAsOnTheHost compares what users and their groups may do on a volume, what
// becomes of privileges of a file, and of waiting for one, with a file system of the
// host.
func TestFilesAsOnTheHost(t *testing.T) {
	s := newSite(t)
	local, volume := filepath.Join(s.dir, "local"), filepath.Join(s.dir, "volume")
	mountTmpfs(t, local, 0)
	mountTmpfs(t, volume, 0)
	if err := errors.Join(os.Chmod(s.dir, 0o755), os.Chmod(filepath.Dir(s.dir), 0o755)); err != nil {
		t.Fatal(err)
	}
	want, err := thisProgram("file steps", local).CombinedOutput()
	if err != nil {
		t.Fatalf("on the host: %v: %s", err, want)
	}
	got := s.output(s.withProgram(s.bundle([]string{programName, "file steps", "/volume"}, asDocker, func(spec *specs.Spec) {
		spec.Mounts = append(spec.Mounts, bind(volume, "/volume"))
	})))
	g, w := bytes.Split([]byte(got), []byte("\n")), bytes.Split(want, []byte("\n"))
	for i := range max(len(g), len(w)) {
		if i >= len(g) || i >= len(w) {
			t.Fatalf("%d lines, want %d", len(g), len(w))
		}
		if !bytes.Equal(g[i], w[i]) {
			t.Errorf("%s\nwant %s", g[i], w[i])
		}
	}
	t.Logf("%s", want)
}
