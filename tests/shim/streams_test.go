package shim

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/agent/api"
	"github.com/microvm/microvm/tests/command"
)

// input is more than fits into any buffer on its way, and what sha256sum says of it.
func input() (data []byte, sum string) {
	data = make([]byte, 3<<20+1)
	rand.New(rand.NewSource(1)).Read(data)
	return data, fmt.Sprintf("%x  -", sha256.Sum256(data))
}

func TestStdin(t *testing.T) {
	data, sum := input()
	each(t, func(t *testing.T, s *site) {
		s.run(s.container(), "--rm", "--", "cat").Input(strings.NewReader("hello\n")).Wants(0, "hello")
		s.run(s.container(), "--rm", "--", "sha256sum").Input(bytes.NewReader(data)).Wants(0, sum)
	})
}

// TestWritersOfStdin come and go: input ends when the client says so, and not
// before what it has written is read.
func TestWritersOfStdin(t *testing.T) {
	ctx := t.Context()
	b := startBare(t, bootstrap(t))
	b.started()
	stdin, out := filepath.Join(t.TempDir(), "stdin"), filepath.Join(t.TempDir(), "out")
	if err := unix.Mkfifo(stdin, 0o600); err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		t.Helper()
		f, err := os.OpenFile(stdin, os.O_WRONLY, 0)
		if err == nil {
			_, err = f.WriteString(text)
		}
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	must(b.tasks.Create(ctx, &api.CreateTaskRequest{Id: "reader", Bundle: b.bundle("reader", "cat; echo end; exit 7"), Stdin: stdin, Stdout: "file://" + out}))(t)
	must(b.tasks.Start(ctx, &api.StartRequest{Id: "reader"}))(t)
	for n, text := range []string{"one\n", "two\n"} {
		write(text)
		command.Eventually(t, "the input has arrived", func() bool { return lines(out) == n+1 })
		time.Sleep(300 * time.Millisecond) // an end would have arrived, too
	}
	if s := must(b.tasks.State(ctx, &api.StateRequest{Id: "reader"}))(t); s.GetStatus() != api.Status_RUNNING {
		t.Errorf("after its writers have gone: %v", s)
	}
	write("three\n")
	must(b.tasks.CloseIO(ctx, &api.CloseIORequest{Id: "reader", Stdin: true}))(t)
	if w := must(b.tasks.Wait(ctx, &api.WaitRequest{Id: "reader"}))(t); w.GetExitStatus() != 7 {
		t.Errorf("wait: %v", w)
	}
	must(b.tasks.Delete(ctx, &api.DeleteRequest{Id: "reader"}))(t)
	if got, err := os.ReadFile(out); err != nil || string(got) != "one\ntwo\nthree\nend\n" {
		t.Errorf("output %q, %v", got, err)
	}
	b.shutdown()
}

// TestLateOutput loses nothing of what is written just before the end.
func TestLateOutput(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		const script = `head -c 8388608 /dev/zero; echo last >&2`
		o := s.run(s.container(), "--rm", "--", "sh", "-c", script).Run()
		if o.Code != 0 || len(o.Stdout) != 8<<20 || !strings.HasSuffix(o.Stderr, "last\n") {
			t.Errorf("exit code %d, %d bytes, %s", o.Code, len(o.Stdout), o.Stderr)
		}
	})
}

// TestLoggers sends the output to a file and to a program.
func TestLoggers(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		dir := t.TempDir()
		file := filepath.Join(dir, "file")
		const script = "echo out; echo err >&2"
		s.logTo("file://"+file, script)
		command.Eventually(t, "the file has the output", func() bool { return lines(file) == 2 })

		// A logger's streams are descriptors 3 and 4, and 5 says that it is ready.
		program, log := filepath.Join(dir, "logger"), filepath.Join(dir, "log")
		text := "#!/bin/sh\nexec 5>&-\nsed s/^/1:/ <&3 >>$2 & sed s/^/2:/ <&4 >>$2 & wait\necho $CONTAINER_ID $CONTAINER_NAMESPACE >>$2\n"
		if err := os.WriteFile(program, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
		id := s.logTo("binary://"+program+"?to="+log, script)
		command.Eventually(t, "the logger has ended", func() bool { return lines(log) == 3 })
		got, _ := os.ReadFile(log)
		for _, want := range []string{"1:out\n", "2:err\n", id + " " + namespace + "\n"} {
			if !strings.Contains(string(got), want) {
				t.Errorf("no %q in %q", want, got)
			}
		}
	})
}

// logTo runs a script to its end.
func (s *site) logTo(uri, script string) (id string) {
	s.t.Helper()
	id = s.detached("--log-uri", uri, "--", "sh", "-c", script)
	s.waitStatus(id, "STOPPED")
	s.delete(id, 0)
	return id
}

func lines(file string) int {
	data, _ := os.ReadFile(file)
	return bytes.Count(data, []byte("\n"))
}
