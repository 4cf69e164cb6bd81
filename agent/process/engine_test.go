package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/microvm/microvm/agent/api"
)

// world is an engine with a way to reach its streams.
type world struct {
	*Engine
	t      testing.TB
	socket string
	rootfs string
	ids    atomic.Int32
}

func newWorld(t testing.TB) *world {
	t.Helper()
	needRoot(t)
	dir := t.TempDir()
	// Before there is a reaper, which would take the child away.
	makeRootfs(t, filepath.Join(dir, "rootfs"))
	streams := NewStreams()
	e, err := NewEngine(filepath.Join(dir, "state"), streams)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{Engine: e, t: t, socket: filepath.Join(dir, "streams"), rootfs: filepath.Join(dir, "rootfs")}
	l, err := net.Listen("unix", w.socket)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() { defer close(served); streams.Serve(l) }()
	t.Cleanup(func() {
		l.Close()
		<-served
		streams.Close()
		if err := e.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return w
}

// makeRootfs fills dir with busybox.
func makeRootfs(t testing.TB, dir string) {
	t.Helper()
	for _, d := range []string{"bin", "proc", "sys", "dev", "etc", "tmp", "root"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatalf("busybox-static is needed: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "bin/busybox"), busybox, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("/bin/busybox", "chroot", dir, "/bin/busybox", "--install", "-s", "/bin").CombinedOutput(); err != nil {
		t.Fatalf("install busybox: %v: %s", err, out)
	}
	if err := os.WriteFile(filepath.Join(dir, "bin/data"), []byte("no program"), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (w *world) spec(args ...string) *specs.Spec {
	mounts := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc"},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "mode=755"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"newinstance", "ptmxmode=0666", "mode=0620"}},
	}
	return &specs.Spec{
		Version: "1.3.0",
		Process: process1(args...),
		Root:    &specs.Root{Path: w.rootfs},
		Mounts:  mounts,
		Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{
			{Type: specs.PIDNamespace}, {Type: specs.MountNamespace}, {Type: specs.IPCNamespace},
			{Type: specs.UTSNamespace}, {Type: specs.NetworkNamespace}, {Type: specs.CgroupNamespace},
		}},
	}
}

func process1(args ...string) *specs.Process {
	return &specs.Process{Args: args, Cwd: "/", Env: []string{"PATH=/bin"}}
}

// stdstreams are the host's ends of a process's streams.
type stdstreams struct {
	Stdio
	in, out, err *net.UnixConn
}

// open makes streams; a terminal has no stderr.
func (w *world) open(terminal bool) *stdstreams {
	w.t.Helper()
	s := &stdstreams{Stdio: Stdio{Terminal: terminal}}
	s.in = w.stream(&s.Stdin)
	s.out = w.stream(&s.Stdout)
	if !terminal {
		s.err = w.stream(&s.Stderr)
	}
	return s
}

func (w *world) stream(url *string) *net.UnixConn {
	w.t.Helper()
	conn, err := net.Dial("unix", w.socket)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close() })
	id := fmt.Sprintf("s%d", w.ids.Add(1))
	if err := api.OpenStream(conn, id); err != nil {
		w.t.Fatal(err)
	}
	*url = api.StreamURL(id)
	return conn.(*net.UnixConn)
}

func (w *world) create(id string, spec *specs.Spec, stdio Stdio) {
	w.t.Helper()
	if _, err := w.Create(w.t.Context(), id, "/bundle", spec, nil, stdio); err != nil {
		w.t.Fatalf("create %s: %v", id, err)
	}
}

func (w *world) start(id, execID string) {
	w.t.Helper()
	if pid, err := w.Start(id, execID); err != nil || pid <= 0 {
		w.t.Fatalf("start %s %s: pid %d, %v", id, execID, pid, err)
	}
}

func (w *world) exec(id, execID string, spec *specs.Process, stdio Stdio) {
	w.t.Helper()
	if err := w.Exec(w.t.Context(), id, execID, &api.ExecProcess{Process: *spec}, stdio); err != nil {
		w.t.Fatalf("exec %s %s: %v", id, execID, err)
	}
}

// wait returns the exit code.
func (w *world) wait(id, execID string) uint32 {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	exit, err := w.Wait(ctx, id, execID)
	if err != nil {
		w.t.Fatalf("wait %s %s: %v", id, execID, err)
	}
	if d := time.Since(exit.At); d < 0 || d > time.Hour {
		w.t.Errorf("wait %s %s: ended at %v", id, execID, exit.At)
	}
	return exit.Code
}

func (w *world) remove(id string) {
	w.t.Helper()
	if _, _, err := w.Delete(id, ""); err != nil {
		w.t.Errorf("delete %s: %v", id, err)
	}
}

// run runs a container to its end.
func (w *world) run(spec *specs.Spec) (code uint32, stdout, stderr string) {
	w.t.Helper()
	s := w.open(false)
	s.in.CloseWrite()
	w.create("run", spec, s.Stdio)
	w.start("run", "")
	stdout, stderr = readAll(w.t, s.out), readAll(w.t, s.err)
	code = w.wait("run", "")
	w.remove("run")
	return code, stdout, stderr
}

func readAll(t testing.TB, c net.Conn) string {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(time.Minute))
	p, err := io.ReadAll(c)
	if err != nil {
		t.Errorf("read stream: %v", err)
	}
	return string(p)
}

// sleeper is a running container that does nothing.
func (w *world) sleeper(id string) {
	w.t.Helper()
	w.create(id, w.spec("sleep", "1000"), Stdio{})
	w.start(id, "")
}

// expectNothing checks that no container has left anything.
func (w *world) expectNothing() {
	w.t.Helper()
	for _, dir := range []string{w.state, w.roots} {
		if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
			w.t.Errorf("left in %s: %v, %v", dir, left, err)
		}
	}
}

func TestRun(t *testing.T) {
	w := newWorld(t)
	code, stdout, stderr := w.run(w.spec("sh", "-c", "echo out; echo err >&2; id -u; echo $$; exit 7"))
	if code != 7 || stdout != "out\n0\n1\n" || stderr != "err\n" {
		t.Errorf("got %d, %q, %q", code, stdout, stderr)
	}
}

func TestCannotRun(t *testing.T) {
	w := newWorld(t)
	for arg, want := range map[string]string{
		"nothere":      `exec: "nothere": executable file not found in $PATH`,
		"/bin/nothere": `exec: "/bin/nothere": stat /bin/nothere: no such file or directory`,
		"/bin/data":    `exec: "/bin/data": permission denied`,
	} {
		_, err := w.Create(t.Context(), "c", "", w.spec(arg), nil, Stdio{})
		if err == nil || !strings.HasPrefix(err.Error(), "unable to start container process: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("create with %s: got %v, want %s", arg, err, want)
		}
	}
	w.sleeper("c")
	w.exec("c", "e", process1("nothere"), Stdio{})
	if _, err := w.Start("c", "e"); err == nil || !strings.Contains(err.Error(), "executable file not found in $PATH") {
		t.Errorf("exec: got %v", err)
	}
	if st, _ := w.State("c", "e"); st.Status != api.Status_STOPPED {
		t.Errorf("exec that could not start is %v", st.Status)
	}
	if _, _, err := w.Delete("c", "e"); err != nil {
		t.Errorf("delete exec: %v", err)
	}
}

func TestStdin(t *testing.T) {
	w := newWorld(t)
	s := w.open(false)
	w.create("c", w.spec("sha1sum"), s.Stdio)
	w.start("c", "")
	block := bytes.Repeat([]byte("0123456789abcde\n"), 64<<10)
	for range 16 {
		if _, err := s.in.Write(block); err != nil {
			t.Fatal(err)
		}
	}
	s.in.CloseWrite()
	if got := readAll(t, s.out); !strings.HasPrefix(got, "a6da25e7c43bfd8bc4b8e26ec25bf2dc9ea93ca6") && len(got) != 44 {
		t.Errorf("got %q", got)
	}
	if code := w.wait("c", ""); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestCloseInput(t *testing.T) {
	w := newWorld(t)
	s := w.open(false)
	w.create("c", w.spec("cat"), s.Stdio)
	w.start("c", "")
	if _, err := s.in.Write([]byte("a line\n")); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 7)
	if _, err := io.ReadFull(s.out, line); err != nil || string(line) != "a line\n" {
		t.Fatalf("got %q, %v", line, err)
	}
	if err := w.CloseInput("c", ""); err != nil {
		t.Fatal(err)
	}
	if code := w.wait("c", ""); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestSlowReader(t *testing.T) {
	w := newWorld(t)
	s := w.open(false)
	w.create("c", w.spec("sh", "-c", "head -c 3000000 /dev/zero; echo end >&2"), s.Stdio)
	w.start("c", "")
	s.err.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	if n, err := s.err.Read(make([]byte, 4)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the writer did not wait for its reader: %d, %v", n, err)
	}
	if got := readAll(t, s.out); len(got) != 3000000 {
		t.Errorf("got %d bytes", len(got))
	}
	if got := readAll(t, s.err); got != "end\n" {
		t.Errorf("got %q", got)
	}
}

func TestReaderGone(t *testing.T) {
	w := newWorld(t)
	s := w.open(false)
	w.create("c", w.spec("yes"), s.Stdio)
	w.start("c", "")
	s.out.Close()
	if code := w.wait("c", ""); code != 128+uint32(syscall.SIGPIPE) && code != 1 {
		t.Errorf("exit code %d", code)
	}
}

func TestOrphanHoldsOutput(t *testing.T) {
	w := newWorld(t)
	w.sleeper("c")
	s := w.open(false)
	w.exec("c", "e", process1("sh", "-c", "sleep 1000 & head -c 200000 /dev/zero"), s.Stdio)
	w.start("c", "e")
	if got := readAll(t, s.out); len(got) != 200000 {
		t.Errorf("got %d bytes", len(got))
	}
	if code := w.wait("c", "e"); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestExec(t *testing.T) {
	w := newWorld(t)
	w.sleeper("c")
	s := w.open(false)
	p := process1("sh", "-c", `echo $X; pwd; id; umask; ulimit -n; exit 3`)
	p.Env = append(p.Env, "X=y")
	p.Cwd = "/tmp"
	p.User = specs.User{UID: 12, GID: 34, AdditionalGids: []uint32{56}}
	w.exec("c", "e", p, s.Stdio)
	if st, err := w.State("c", "e"); err != nil || st.Status != api.Status_CREATED {
		t.Errorf("before start: %v, %v", st, err)
	}
	w.start("c", "e")
	want := "y\n/tmp\nuid=12 gid=34 groups=56\n0022\n1024\n"
	if got := readAll(t, s.out); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if code := w.wait("c", "e"); code != 3 {
		t.Errorf("exit code %d", code)
	}
	if _, exit, err := w.Delete("c", "e"); err != nil || exit.Code != 3 {
		t.Errorf("delete: %v, %v", exit, err)
	}
	if _, err := w.State("c", "e"); !errors.Is(err, ErrNotFound) {
		t.Errorf("after delete: %v", err)
	}
}

func TestTerminal(t *testing.T) {
	w := newWorld(t)
	s := w.open(true)
	spec := w.spec("sh", "-c", "stty size; read line; stty size; tty; echo got $line")
	spec.Process.Terminal = true
	spec.Process.ConsoleSize = &specs.Box{Width: 90, Height: 30}
	w.create("c", spec, s.Stdio)
	w.start("c", "")
	first := make([]byte, 7)
	if _, err := io.ReadFull(s.out, first); err != nil || string(first) != "30 90\r\n" {
		t.Fatalf("got %q, %v", first, err)
	}
	if err := w.Resize("c", "", 100, 40); err != nil {
		t.Fatal(err)
	}
	if _, err := s.in.Write([]byte("word\n")); err != nil {
		t.Fatal(err)
	}
	s.in.CloseWrite() // must not hang up the terminal
	if got, want := readAll(t, s.out), "word\r\n40 100\r\n/dev/pts/0\r\ngot word\r\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if code := w.wait("c", ""); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// A terminal whose output may go to a file.
func TestTerminalWithPlainNewlines(t *testing.T) {
	w := newWorld(t)
	s := w.open(true)
	s.Stdout += strings.TrimPrefix(api.PlainStreamURL("x"), api.StreamURL("x"))
	spec := w.spec("sh", "-c", "tty && echo got it; printf 'a\\r\\n'")
	spec.Process.Terminal = true
	w.create("c", spec, s.Stdio)
	w.start("c", "")
	if got, want := readAll(t, s.out), "/dev/pts/0\ngot it\na\r\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestExecTerminal(t *testing.T) {
	w := newWorld(t)
	w.sleeper("c")
	s := w.open(true)
	p := process1("sh", "-c", "stty size; head -c 100000 /dev/zero | tr '\\0' x")
	p.Terminal = true
	w.exec("c", "e", p, s.Stdio)
	if err := w.Resize("c", "e", 77, 11); err != nil {
		t.Fatal(err)
	}
	w.start("c", "e")
	if got := readAll(t, s.out); len(got) != 100007 || !strings.HasSuffix(got, "x") {
		t.Errorf("got %d bytes: %.20q", len(got), got)
	}
}

func TestSignals(t *testing.T) {
	w := newWorld(t)
	w.sleeper("c")
	w.exec("c", "e", process1("sleep", "1000"), Stdio{})
	w.start("c", "e")
	if err := w.Kill("c", "e", syscall.SIGTERM, false); err != nil {
		t.Fatal(err)
	}
	if code := w.wait("c", "e"); code != 143 {
		t.Errorf("exec: exit code %d", code)
	}
	if err := w.Kill("c", "e", syscall.SIGTERM, false); !errors.Is(err, ErrState) {
		t.Errorf("kill a stopped exec: %v", err)
	}
	if err := w.Kill("c", "", syscall.SIGKILL, false); err != nil {
		t.Fatal(err)
	}
	for range 2 { // a second wait answers as well
		if code := w.wait("c", ""); code != 137 {
			t.Errorf("exit code %d", code)
		}
	}
	if err := w.Kill("c", "", syscall.SIGTERM, false); !errors.Is(err, ErrState) || err.Error() != "container not running" {
		t.Errorf("kill a stopped container: %v", err)
	}
}

func TestStates(t *testing.T) {
	w := newWorld(t)
	if _, err := w.Start("c", ""); !errors.Is(err, ErrNotFound) {
		t.Errorf("start of nothing: %v", err)
	}
	w.create("c", w.spec("sleep", "1000"), Stdio{})
	if _, err := w.Create(t.Context(), "c", "", w.spec("true"), nil, Stdio{}); !errors.Is(err, ErrExists) {
		t.Errorf("second create: %v", err)
	}
	if st, err := w.State("c", ""); err != nil || st.Status != api.Status_CREATED || st.Pid <= 0 || st.Bundle != "/bundle" {
		t.Errorf("created: %+v, %v", st, err)
	}
	w.start("c", "")
	if _, err := w.Start("c", ""); !errors.Is(err, ErrState) {
		t.Errorf("second start: %v", err)
	}
	if _, _, err := w.Delete("c", ""); !errors.Is(err, ErrState) {
		t.Errorf("delete while running: %v", err)
	}
	if err := w.Pause("c"); err != nil {
		t.Fatal(err)
	}
	if st, _ := w.State("c", ""); st.Status != api.Status_PAUSED {
		t.Errorf("paused: %v", st.Status)
	}
	if err := w.Exec(t.Context(), "c", "e", &api.ExecProcess{Process: *process1("true")}, Stdio{}); !errors.Is(err, ErrState) {
		t.Errorf("exec while paused: %v", err)
	}
	if err := w.Resume("c"); err != nil {
		t.Fatal(err)
	}
	if pids, err := w.Pids("c"); err != nil || len(pids) != 1 {
		t.Errorf("pids: %v, %v", pids, err)
	}
	w.Kill("c", "", syscall.SIGKILL, false)
	w.wait("c", "")
	if st, _ := w.State("c", ""); st.Status != api.Status_STOPPED || st.Exit.Code != 137 {
		t.Errorf("stopped: %+v", st)
	}
	w.remove("c")
	if _, err := w.Wait(t.Context(), "c", ""); !errors.Is(err, ErrNotFound) {
		t.Errorf("wait after delete: %v", err)
	}
	w.create("c", w.spec("true"), Stdio{}) // the id is free again
	w.remove("c")
}

func TestDeleteCreated(t *testing.T) {
	w := newWorld(t)
	w.create("c", w.spec("true"), Stdio{})
	ended := make(chan error)
	go func() { _, err := w.Wait(t.Context(), "c", ""); ended <- err }()
	w.remove("c")
	if err := <-ended; err != nil && !errors.Is(err, ErrNotFound) {
		t.Errorf("wait: %v", err)
	}
	w.expectNothing()
}

func TestBadSpecs(t *testing.T) {
	w := newWorld(t)
	noRoot := w.spec("true")
	noRoot.Root = nil
	missing := w.spec("true")
	missing.Root.Path = w.rootfs + "/nothere"
	relative := w.spec("true")
	relative.Process.Cwd = "tmp"
	for name, spec := range map[string]*specs.Spec{
		"empty": {}, "no args": w.spec(), "no root": noRoot, "missing root": missing, "relative cwd": relative,
	} {
		if _, err := w.Create(t.Context(), "c", "", spec, nil, Stdio{}); err == nil {
			t.Errorf("%s: created", name)
		}
	}
	for _, id := range []string{"", "..", "a/b"} {
		if _, err := w.Create(t.Context(), id, "", w.spec("true"), nil, Stdio{}); !errors.Is(err, ErrInvalid) {
			t.Errorf("id %q: %v", id, err)
		}
	}
	w.expectNothing()
}
