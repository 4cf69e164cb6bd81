package shim

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
