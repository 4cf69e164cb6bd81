package jail

import (
	"errors"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/vmm/control"
)

// prisoner builds the program that goes to jail.
func prisoner(t testing.TB) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	path := filepath.Join(t.TempDir(), "prisoner")
	build := exec.Command("go", "build", "-o", path, "./testdata/prisoner")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}

// commit has the prisoner do a deed, and returns what it says and how it ends.
func commit(t testing.TB, path string, flags uintptr, files []*os.File, args ...string) (string, syscall.WaitStatus) {
	t.Helper()
	// What the test was started with is not handed on.
	if err := unix.CloseRange(3, 1<<31-1, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
	cmd.ExtraFiles = files
	out, err := cmd.CombinedOutput()
	if e := (*exec.ExitError)(nil); err != nil && !errors.As(err, &e) {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out)), cmd.ProcessState.Sys().(syscall.WaitStatus)
}

const namespaces = control.Namespaces | control.EmptyNetwork

// wantDeeds has deeds done in a jail: those that are allowed say what is wanted, and the
// others are deadly.
func wantDeeds(t *testing.T, allowed map[string]string, deadly []string, do func(deed string) (string, syscall.WaitStatus)) {
	t.Helper()
	for deed, want := range allowed {
		if out, status := do(deed); out != want || status.Signaled() {
			t.Errorf("%s: %q, %v; want %q", deed, out, status, want)
		}
	}
	for _, deed := range deadly {
		if out, status := do(deed); !status.Signaled() || status.Signal() != unix.SIGSYS || status.CoreDump() {
			t.Errorf("%s: %q, %v; want death by SIGSYS without a core", deed, out, status)
		}
	}
}

func TestDeeds(t *testing.T) {
	path := prisoner(t)
	allowed := map[string]string{
		"nothing":   "done",
		"threads":   "done",
		"open":      "no such file or directory",
		"open proc": "no such file or directory",
		"create":    "read-only file system",
		"mkdir":     "read-only file system",
		"capset":    "operation not permitted",
	}
	deadly := []string{
		"execve", "fork", "fork as fcntl", "fork as pread", "clone3", "socket", "socketpair", "mount", "umount", "unshare", "setns", "chroot", "ptrace", "process_vm_readv",
		"open_by_handle_at", "bpf", "io_uring_setup", "userfaultfd", "keyctl", "memfd_create", "mmap code", "mprotect code", "ioctl",
		"prctl", "fcntl", "kill", "tgkill another", "setuid", "x32",
	}
	wantDeeds(t, allowed, deadly, func(deed string) (string, syscall.WaitStatus) { return commit(t, path, namespaces, nil, deed) })
}

// TestNetworkDeeds tries the jail of a user-mode network.
func TestNetworkDeeds(t *testing.T) {
	path := prisoner(t)
	allowed := map[string]string{
		"nothing":    "done",
		"threads":    "done",
		"socket":     "done",
		"socket raw": "operation not permitted",
		"read names": "done",
		"open":       "done",
		"open proc":  "no such file or directory",
	}
	deadly := []string{
		"create", "mkdir", "capset", "execve", "fork", "clone3", "socket unix", "socket netlink", "socketpair", "mount", "umount", "unshare", "setns", "chroot",
		"ptrace", "process_vm_readv", "open_by_handle_at", "bpf", "io_uring_setup", "userfaultfd", "keyctl", "memfd_create", "mmap code", "mprotect code",
		"ioctl", "ioctl run", "prctl", "fcntl", "kill", "tgkill another", "setuid", "x32",
	}
	wantDeeds(t, allowed, deadly, func(deed string) (string, syscall.WaitStatus) {
		return commit(t, path, control.Namespaces, nil, "network", deed)
	})
}

func TestTopmost(t *testing.T) {
	got := topmost([]string{"/run/x", "/etc", "/etc/static", "/etc", "/etcetera", "elsewhere"})
	if want := []string{"/etc", "/etcetera", "/run/x"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestPrepareRefuses(t *testing.T) {
	path := prisoner(t)
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for _, c := range []struct {
		name  string
		flags uintptr
		files []*os.File
		args  []string
		want  string
	}{
		{"handed", namespaces, []*os.File{null}, []string{"3"}, "done"},
		{"too many descriptors", namespaces, []*os.File{null, null}, []string{"3"}, "jail: descriptors: descriptor 4 (/dev/null) is open"},
		{"no namespaces", 0, nil, nil, "jail: namespaces: this process is not the first"},
	} {
		out, _ := commit(t, path, c.flags, c.files, append([]string{"nothing"}, c.args...)...)
		if !strings.HasPrefix(out, c.want) {
			t.Errorf("%s: %q, want %q", c.name, out, c.want)
		}
	}
}

func TestIsAlone(t *testing.T) {
	for ids, want := range map[string]bool{
		"         0          0 4294967295\n":                   false,
		"      1000       1000          1\n":                   true,
		"         0       1000          1\n  1 100000 65536\n": false,
		"": false,
	} {
		if isAlone(ids) != want {
			t.Errorf("%q: %v", ids, !want)
		}
	}
}

// BenchmarkStart measures what the jail adds to the start of a process.
func BenchmarkStart(b *testing.B) {
	path := prisoner(b)
	b.Run("free", func(b *testing.B) {
		for b.Loop() {
			commit(b, path, 0, nil)
		}
	})
	b.Run("jailed", func(b *testing.B) {
		for b.Loop() {
			commit(b, path, namespaces, nil, "nothing")
		}
	})
}

// BenchmarkCalls measures what the filter adds to system calls: one that is allowed
// with any arguments, and two of which it looks at them.
func BenchmarkCalls(b *testing.B) {
	path := prisoner(b)
	for _, deed := range []string{"read", "fcntl flags", "ioctl run"} {
		for name, run := range map[string]func() string{
			"free":   func() string { out, _ := commit(b, path, 0, nil, "free", deed); return out },
			"jailed": func() string { out, _ := commit(b, path, namespaces, nil, deed); return out },
		} {
			b.Run(deed+"/"+name, func(b *testing.B) {
				least := math.MaxInt
				for b.Loop() {
					first, _, _ := strings.Cut(run(), "\n")
					ns, err := strconv.Atoi(first)
					if err != nil {
						b.Fatal(err)
					}
					least = min(least, ns)
				}
				b.ReportMetric(float64(least), "ns/call")
			})
		}
	}
}
