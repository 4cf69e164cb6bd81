package export_test

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/microvm/microvm/rootfs/export"
	"golang.org/x/sys/unix"
)

// The property: whatever is done to a share, and to the directory that it shows
// by a second writer on the host, has the same results and leaves the same as
// when it is done to a directory that nobody shares, the model.

// world is a directory that operations are done to, with files open in it.
type world struct {
	dir   string
	files [4]int // descriptors, -1 if closed
}

func newWorld(dir string) *world { return &world{dir: dir, files: [4]int{-1, -1, -1, -1}} }

func (w *world) close() {
	for _, fd := range w.files {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// step is an operation with its arguments, chosen once and done to several
// worlds.
type step struct {
	name   string
	a, b   string // paths below the directory
	slot   int    // of an open file
	off, n int64
	data   []byte
	mode   uint32
}

// operation does a step and says what came of it, besides an error.
type operation func(w *world, s *step) (string, error)

func (w *world) at(path string) string { return filepath.Join(w.dir, path) }

// byPath are the operations on names, which a second writer may do, too.
var byPath = map[string]operation{
	"create": func(w *world, s *step) (string, error) {
		// A FIFO must not be waited for.
		fd, err := unix.Open(w.at(s.a), unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|unix.O_NONBLOCK, s.mode&0o777|0o600)
		if err != nil {
			return "", err
		}
		defer unix.Close(fd)
		n, err := unix.Write(fd, s.data)
		return fmt.Sprint(n), err
	},
	"mkdir":   func(w *world, s *step) (string, error) { return "", unix.Mkdir(w.at(s.a), s.mode&0o7777|0o700) },
	"rmdir":   func(w *world, s *step) (string, error) { return "", unix.Rmdir(w.at(s.a)) },
	"unlink":  func(w *world, s *step) (string, error) { return "", unix.Unlink(w.at(s.a)) },
	"link":    func(w *world, s *step) (string, error) { return "", unix.Link(w.at(s.a), w.at(s.b)) },
	"symlink": func(w *world, s *step) (string, error) { return "", unix.Symlink(s.a, w.at(s.b)) },
	"mknod":   func(w *world, s *step) (string, error) { return "", unix.Mknod(w.at(s.a), unix.S_IFIFO|0o644, 0) },
	"rename":  func(w *world, s *step) (string, error) { return "", unix.Rename(w.at(s.a), w.at(s.b)) },
	"rename2": func(w *world, s *step) (string, error) {
		return "", unix.Renameat2(unix.AT_FDCWD, w.at(s.a), unix.AT_FDCWD, w.at(s.b), uint(1+s.mode%2))
	},
	"chmod": func(w *world, s *step) (string, error) { return "", unix.Chmod(w.at(s.a), s.mode&0o7777|0o700) },
	"chown": func(w *world, s *step) (string, error) {
		return "", unix.Lchown(w.at(s.a), int(s.mode%3), int(s.mode%5))
	},
	"truncate": func(w *world, s *step) (string, error) { return "", unix.Truncate(w.at(s.a), s.off) },
	"utimes": func(w *world, s *step) (string, error) {
		ts := []unix.Timespec{{Sec: s.off}, {Sec: s.n, Nsec: s.off}}
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, w.at(s.a), ts, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return "", err
		}
		var st unix.Stat_t
		err := unix.Lstat(w.at(s.a), &st)
		return fmt.Sprint(st.Mtim), err
	},
	"setxattr": func(w *world, s *step) (string, error) {
		return "", unix.Lsetxattr(w.at(s.a), "user."+s.b, s.data, int(s.mode%3))
	},
	"removexattr": func(w *world, s *step) (string, error) { return "", unix.Lremovexattr(w.at(s.a), "user."+s.b) },
	"read": func(w *world, s *step) (string, error) {
		if st, err := os.Stat(w.at(s.a)); err != nil || st.Mode()&fs.ModeNamedPipe != 0 {
			return "", err
		}
		b, err := os.ReadFile(w.at(s.a))
		return sum(b), err
	},
}

// byFile are operations on open files.
var byFile = map[string]operation{
	"open": func(w *world, s *step) (string, error) {
		if st, err := os.Stat(w.at(s.a)); err != nil || !st.Mode().IsRegular() {
			return "", err
		}
		if w.files[s.slot] >= 0 {
			unix.Close(w.files[s.slot])
		}
		flags := []int{unix.O_RDWR, unix.O_RDWR | unix.O_APPEND, unix.O_RDWR | unix.O_TRUNC, unix.O_RDONLY}[s.mode%4]
		fd, err := unix.Open(w.at(s.a), flags|unix.O_CLOEXEC, 0)
		w.files[s.slot] = fd
		return "", err
	},
	"pwrite": func(w *world, s *step) (string, error) {
		n, err := unix.Pwrite(w.files[s.slot], s.data, s.off)
		return fmt.Sprint(n), err
	},
	"pread": func(w *world, s *step) (string, error) {
		b := make([]byte, s.n)
		n, err := unix.Pread(w.files[s.slot], b, s.off)
		if err != nil {
			return "", err
		}
		return sum(b[:n]), nil
	},
	"ftruncate": func(w *world, s *step) (string, error) { return "", unix.Ftruncate(w.files[s.slot], s.off) },
	"fchmod":    func(w *world, s *step) (string, error) { return "", unix.Fchmod(w.files[s.slot], s.mode&0o7777|0o600) },
	"fallocate": func(w *world, s *step) (string, error) {
		mode := []uint32{0, unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_ZERO_RANGE}[s.mode%4]
		clearSetID(w.files[s.slot])
		return "", unix.Fallocate(w.files[s.slot], mode, s.off, s.n+1)
	},
	"copy": func(w *world, s *step) (string, error) {
		from, to := s.off, s.n
		clearSetID(w.files[(s.slot+1)%4])
		n, err := unix.CopyFileRange(w.files[s.slot], &from, w.files[(s.slot+1)%4], &to, len(s.data), 0)
		return fmt.Sprint(n), err
	},
	"map": func(w *world, s *step) (string, error) {
		var st unix.Stat_t
		if err := unix.Fstat(w.files[s.slot], &st); err != nil || st.Size == 0 {
			return "", err
		}
		m, err := unix.Mmap(w.files[s.slot], 0, int(st.Size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			return "", err
		}
		copy(m[s.off%st.Size:], s.data)
		return "", errors.Join(unix.Msync(m, unix.MS_SYNC), unix.Munmap(m))
	},
	"fstat": func(w *world, s *step) (string, error) {
		var st unix.Stat_t
		err := unix.Fstat(w.files[s.slot], &st)
		return fmt.Sprint(st.Size, st.Nlink, st.Mode, st.Uid, st.Gid), err
	},
}

// clearSetID does to the set-id bits of an open file what a share does where it is not
// told that the caller is root, which the host spares.
func clearSetID(fd int) {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) == nil {
		_ = unix.Fchmod(fd, st.Mode&0o1777) // it is the caller's
	}
}

func sum(b []byte) string {
	h := fnv.New64a()
	h.Write(b)
	return fmt.Sprintf("%d bytes, %x", len(b), h.Sum64())
}

// do does the step and says all that came of it.
func (w *world) do(op operation, s *step) string {
	said, err := op(w, s)
	var errno unix.Errno
	errors.As(err, &errno)
	return fmt.Sprintf("%q, %v", said, errno)
}

// state describes everything in the directory.
func (w *world) state(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(w.dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		rel, _ := filepath.Rel(w.dir, p)
		fmt.Fprintf(&b, "%s %o %d %d:%d %s", rel, st.Mode, st.Nlink, st.Uid, st.Gid, xattrs(p))
		switch d.Type() {
		case 0:
			content, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			fmt.Fprint(&b, " ", st.Size, " ", sum(content))
		case fs.ModeSymlink:
			target, _ := os.Readlink(p)
			fmt.Fprint(&b, " -> ", target)
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		return err.Error()
	}
	return b.String()
}

// xattrs lists what p has of user.*.
func xattrs(p string) string {
	list := make([]byte, 4096)
	n, err := unix.Llistxattr(p, list)
	if err != nil {
		return ""
	}
	names := strings.Split(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00")
	slices.Sort(names)
	var b strings.Builder
	for _, name := range names {
		value := make([]byte, 4096)
		if n, err := unix.Lgetxattr(p, name, value); err == nil && strings.HasPrefix(name, "user.") {
			fmt.Fprintf(&b, "%s=%s ", name, sum(value[:n]))
		}
	}
	return b.String()
}

// chooser makes steps up, most of which can be done.
type chooser struct {
	*rand.Rand
	model *world
}

// step is one of the operations ops.
func (c *chooser) step(ops []string) *step {
	data := make([]byte, c.IntN(20000))
	if c.IntN(4) == 0 {
		data = data[:len(data)/400]
	}
	for i := range data {
		data[i] = byte(c.Uint32())
	}
	s := &step{
		name: ops[c.IntN(len(ops))], slot: c.slot(),
		off: c.Int64N(30000) >> c.IntN(8), n: c.Int64N(30000), data: data, mode: c.Uint32(),
	}
	s.a, s.b = c.paths(s.name)
	return s
}

// slot is that of an open file, or any.
func (c *chooser) slot() int {
	var open []int
	for i, fd := range c.model.files {
		if fd >= 0 {
			open = append(open, i)
		}
	}
	if len(open) == 0 || c.IntN(10) == 0 {
		return c.IntN(len(c.model.files))
	}
	return open[c.IntN(len(open))]
}

// paths are the names for an operation: what it takes away or changes is
// mostly there, what it makes mostly not.
func (c *chooser) paths(name string) (a, b string) {
	dirs, files := c.model.entries()
	all := append(slices.Clone(files), dirs[1:]...) // but for the root
	pick := func(from []string) string {
		if len(from) == 0 || c.IntN(8) == 0 {
			return filepath.Join(dirs[c.IntN(len(dirs))], string(rune('a'+c.IntN(6))))
		}
		return from[c.IntN(len(from))]
	}
	switch name {
	case "mkdir", "mknod":
		return pick(nil), ""
	case "create":
		return pick(files[:len(files)/4]), ""
	case "open", "truncate", "read", "unlink":
		return pick(files), ""
	case "rmdir":
		return pick(dirs[1:]), ""
	case "link":
		return pick(files), pick(nil)
	case "setxattr", "removexattr":
		return pick(all), string(rune('a' + c.IntN(3)))
	case "rename2":
		return pick(all), pick(all[:len(all)/2])
	default:
		return pick(all), pick(all[:len(all)/4])
	}
}

// entries lists the directories, the world's first, and everything else.
func (w *world) entries() (dirs, files []string) {
	_ = filepath.WalkDir(w.dir, func(p string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(w.dir, p)
		if err == nil && d.IsDir() {
			dirs = append(dirs, rel)
		} else if err == nil {
			files = append(files, rel)
		}
		return nil
	})
	return dirs, files
}

func TestRandomOperations(t *testing.T) {
	for _, c := range []struct {
		name       string
		policy     export.Policy
		steps      int
		secondEach int           // one in so many steps is the second writer's
		stale      time.Duration // how long the guest may not see what that did
	}{
		{"never", export.Policy{Cache: export.CacheNever}, 600, 4, 0},
		{"auto, alone", export.Policy{}, 600, 0, 0},
		{"auto", export.Policy{}, 150, 40, 1100 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			seed := uint64(time.Now().UnixNano())
			back, model := newWorld(t.TempDir()), newWorld(t.TempDir())
			mnt := mount(t, mountConfig{Cached: 16, Exports: []mountExport{{Name: "rw", Path: back.dir, Policy: c.policy}}})
			share := newWorld(filepath.Join(mnt, "rw"))
			r := &chooser{rand.New(rand.NewPCG(seed, 0)), model}
			defer share.close()
			defer model.close()
			for i := range c.steps {
				second := c.secondEach > 0 && r.IntN(c.secondEach) == 0
				if !play(t, r, share, back, model, second, c.stale) {
					t.Fatalf("step %d of seed %d", i, seed)
				}
			}
		})
	}
}

var (
	pathOps = append(sortedNames(byPath), "create", "create", "create", "create", "mkdir")
	allOps  = append(append(sortedNames(byFile), "open", "open", "open", "pwrite", "pwrite", "pread", "fallocate", "fallocate", "copy", "map"), pathOps...)
)

func sortedNames(ops map[string]operation) []string {
	var names []string
	for name := range ops {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// play does one step and reports whether the property holds.
func play(t *testing.T, r *chooser, share, back, model *world, second bool, stale time.Duration) bool {
	t.Helper()
	writer, ops := share, allOps
	if second {
		writer, ops = back, pathOps
	}
	s := r.step(ops)
	op := byPath[s.name]
	if op == nil {
		op = byFile[s.name]
	}
	got, want := writer.do(op, s), model.do(op, s)
	if second {
		time.Sleep(stale)
	}
	if got != want {
		t.Errorf("%s %s %s, slot %d, at %d, %d, %d bytes, mode %o: %s, want %s", s.name, s.a, s.b, s.slot, s.off, s.n, len(s.data), s.mode, got, want)
	}
	left := model.state(t)
	differ(t, "after "+s.name+", the share", share.state(t), left)
	differ(t, "after "+s.name+", the host", back.state(t), left)
	return !t.Failed()
}
