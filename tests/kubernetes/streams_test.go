package kubernetes

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
)

func readFile(s *space, name string) string {
	s.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		s.Fatal(err)
	}
	return string(text)
}

// TestExec has streams, exit codes and a terminal.
func TestExec(t *testing.T) {
	each(t, func(s *space) {
		s.pod("p", `
containers: [{name: main, image: IMAGE}]
`)
		s.ready("p")
		out, err := s.feed("some input", "exec", "-i", "p", "--", "cat")
		if err != nil || out != "some input" {
			s.Errorf("input: %q, %v", out, err)
		}
		large := strings.Repeat("0123456789abcdef", 1<<16)
		if out, err := s.feed(large, "exec", "-i", "p", "--", "cat"); err != nil || out != large {
			s.Errorf("%d bytes back of a MiB, %v", len(out), err)
		}
		if _, err := s.try("exec", "p", "--", "sh", "-c", "exit 9"); err == nil || !strings.Contains(err.Error(), "exit code 9") && !strings.Contains(err.Error(), "exit status 9") {
			s.Errorf("exit code: %v", err)
		}
		if _, err := s.try("exec", "p", "--", "nosuch"); err == nil || !strings.Contains(err.Error(), "nosuch") {
			s.Errorf("a program that is not there: %v", err)
		}
		terminal(s)
	})
}

// terminal runs a shell with one, and sizes it.
func terminal(s *space) {
	s.Helper()
	cmd := s.command("exec", "-it", "p", "--", "sh", "-c", "stty size; read line; echo got $line; exit 4")
	f, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 31, Cols: 77})
	if err != nil {
		s.Fatal(err)
	}
	defer f.Close()
	fmt.Fprintln(f, "hello")
	said, _ := io.ReadAll(f) // it ends with EIO
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != 4 {
		s.Errorf("exit of a terminal: %v", err)
	}
	if !strings.Contains(string(said), "got hello") {
		s.Errorf("terminal: %q", said)
	}
	if !strings.Contains(string(said), "31 77") {
		s.Logf("the size came after the program had looked: %q", said)
	}
}

// TestAttach has the first process's own streams.
func TestAttach(t *testing.T) {
	each(t, func(s *space) {
		s.pod("p", `
restartPolicy: Never
containers: [{name: main, image: IMAGE, stdin: true, stdinOnce: true, command: [sh, -c, 'echo begin; cat; echo end']}]
`)
		s.ready("p")
		if _, err := s.feed("from attach\n", "attach", "-i", "p"); err != nil {
			s.Error(err)
		}
		s.becomes("pod/p", ".status.phase", "Succeeded")
		s.expect("log", s.kubectl("logs", "p"), "begin\nfrom attach\nend")
	})
}

// TestLogs follows them, and tells both streams.
func TestLogs(t *testing.T) {
	each(t, func(s *space) {
		s.pod("p", `
restartPolicy: Never
containers: [{name: main, image: IMAGE, command: [sh, -c, 'for i in 1 2 3 4 5; do echo out $i; echo err $i >&2; sleep 0.3; done; printf unfinished']}]
`)
		s.wait("pod/p", "jsonpath={.status.containerStatuses[0].started}") // or has ended
		followed := s.kubectl("logs", "-f", "p", "--pod-running-timeout="+patience.String())
		if want := 11; strings.Count(followed+"\n", "\n") != want || !strings.HasSuffix(followed, "unfinished") {
			s.Errorf("followed: %q", followed)
		}
		s.expect("tail", s.kubectl("logs", "p", "--tail=1"), "unfinished")
	})
}

// TestCopy copies a directory in and out, byte for byte.
func TestCopy(t *testing.T) {
	each(t, func(s *space) {
		s.pod("p", `
containers: [{name: main, image: IMAGE}]
`)
		s.ready("p")
		dir := t.TempDir()
		for name, content := range map[string]string{"in/deep/file": strings.Repeat("content\x00\xff", 1<<17), "in/empty": ""} {
			file := filepath.Join(dir, name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(content), 0o640)); err != nil {
				s.Fatal(err)
			}
		}
		s.kubectl("cp", filepath.Join(dir, "in"), "p:/tmp/there")
		s.kubectl("cp", "p:/tmp/there", filepath.Join(dir, "out"))
		if out, err := exec.Command("diff", "-r", filepath.Join(dir, "in"), filepath.Join(dir, "out")).CombinedOutput(); err != nil {
			s.Errorf("what comes back differs: %s", out)
		}
	})
}

// TestPortForward reaches servers on a pod's own address and on its loopback.
func TestPortForward(t *testing.T) {
	each(t, func(s *space) {
		s.pod("p", `
containers:
- {name: any, image: IMAGE, command: [sh, -c, 'mkdir /www && echo any >/www/index.html && exec httpd -f -p 8080 -h /www']}
- {name: local, image: IMAGE, command: [sh, -c, 'mkdir /www && echo local >/www/index.html && exec httpd -f -p 127.0.0.1:8081 -h /www']}
`)
		s.ready("p")
		// kubectl ends with the first connection that is refused.
		s.run("p", "until netstat -ltn | grep -q :8080 && netstat -ltn | grep -q :8081; do sleep 0.2; done")
		lines := forward(s, "p", "8080", "8081")
		for _, want := range []string{"any", "local"} {
			s.expect("answer", fetch(s, forwarded(s, lines)), want)
		}
	})
}

// forward forwards ports to a pod's until the test ends, and returns what kubectl says.
func forward(s *space, pod string, ports ...string) *bufio.Scanner {
	s.Helper()
	cmd := s.command("port-forward", "pod/"+pod)
	for _, p := range ports {
		cmd.Args = append(cmd.Args, ":"+p)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return bufio.NewScanner(out)
}

// forwarded is the next address that port-forward says it listens at, of IPv4.
func forwarded(s *space, lines *bufio.Scanner) string {
	s.Helper()
	for lines.Scan() {
		if f := strings.Fields(lines.Text()); len(f) > 2 && strings.HasPrefix(f[2], "127.0.0.1:") {
			return f[2]
		}
	}
	s.Fatalf("port-forward ended: %v", lines.Err())
	return ""
}

// fetch is what an HTTP server answers.
func fetch(s *space, address string) string {
	s.Helper()
	var text []byte
	client := http.Client{Timeout: time.Minute, Transport: &http.Transport{DialContext: (&net.Dialer{}).DialContext, DisableKeepAlives: true}}
	s.eventually("answer of "+address, func() error {
		r, err := client.Get("http://" + address + "/")
		if err != nil {
			return err
		}
		defer r.Body.Close()
		text, err = io.ReadAll(r.Body)
		return err
	})
	return string(text)
}
