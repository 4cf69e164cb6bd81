package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/agent/api"
	"github.com/microvm/microvm/runtime/container"
)

func TestSignals(t *testing.T) {
	for text, want := range map[string]unix.Signal{"": unix.SIGTERM, "KILL": unix.SIGKILL, "sigusr1": unix.SIGUSR1, "9": unix.SIGKILL, "0": 0, "64": 64} {
		if got, err := parseSignal(text); err != nil || got != want {
			t.Errorf("%q: %v %v", text, got, err)
		}
	}
	for _, text := range []string{"FOO", "-1", "65", "9x"} {
		if _, err := parseSignal(text); err == nil || !strings.Contains(err.Error(), "unknown signal") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{errors.New("x"), 1},
		{exitCode{-1, errors.New("x")}, 1},
		{exitCode{255, errors.New("x")}, 255},
		{exitCode{255, fmt.Errorf("exec: %w", container.ErrProgramMissing)}, 127},
		{fmt.Errorf("run: %w", container.ErrProgramDenied), 126},
	} {
		if got := codeOf(c.err); got != c.want {
			t.Errorf("%v: %d, want %d", c.err, got, c.want)
		}
	}
}

// call runs the command line and returns its output and error.
func call(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	app := newApp()
	app.Writer = &out
	err := app.Run(permute(app, append([]string{"microvm-runtime", "--root", filepath.Join(t.TempDir(), "state")}, args...)))
	return out.String(), err
}

// TestPrintedOverhead is what the machine of a pod takes beyond the pod's limit.
func TestPrintedOverhead(t *testing.T) {
	for args, want := range map[string]string{
		"--machine software manifest runtimeclass":               "memory: 576Mi\n",
		"--machine software manifest --memory 4096 runtimeclass": "memory: 768Mi\n",
	} {
		if got, err := call(t, strings.Fields(args)...); err != nil || !strings.Contains(got, want) || !strings.Contains(got, "podFixed") {
			t.Errorf("%s: %q, %v", args, got, err)
		}
	}
	if got, err := call(t, "manifest", "--memory", "0", "runtimeclass"); err == nil {
		t.Errorf("no limit: %q", got)
	}
}

func TestMistakesOnTheCommandLine(t *testing.T) {
	for args, want := range map[string]string{
		"state":                     `"state" requires exactly 1 argument(s)`,
		"kill":                      `"kill" requires a minimum of 1 argument(s)`,
		"kill a b c":                `"kill" requires a maximum of 2 argument(s)`,
		"list x":                    `"list" requires exactly 0 argument(s)`,
		"run --bogus":               "flag provided but not defined: -bogus",
		"bogus":                     "No help topic for 'bogus'",
		"state nobody":              "container does not exist",
		"state help":                "container does not exist",
		"delete nobody":             "container does not exist",
		"state a/b":                 "invalid container ID format",
		"create --preserve-fds 1 a": "cannot be passed into a machine",
		"--machine xen run a":       `--machine: "xen" is not one of`,
		"--log-format xml list":     "invalid log-format: xml",
		"--root / list":             "should not be set to /",
		"list --format xml":         "no such file or directory",
	} {
		if _, err := call(t, strings.Fields(args)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", args, err, want)
		}
	}
}

func TestSpecIsWrittenOnce(t *testing.T) {
	dir := t.TempDir()
	if _, err := call(t, "spec", "--bundle", dir); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "config.json"))
	var spec specs.Spec
	if err != nil || json.Unmarshal(data, &spec) != nil || spec.Process.Args[0] != "sh" || !spec.Process.Terminal {
		t.Errorf("%s %v", data, err)
	}
	if _, err := call(t, "spec", "--bundle", dir); err == nil || !strings.Contains(err.Error(), "File config.json exists") {
		t.Error(err)
	}
}

func TestFeaturesAndCheckAreJSON(t *testing.T) {
	for _, args := range [][]string{{"features"}, {"check", "--json"}} {
		out, _ := call(t, args...) // check fails where parts are missing
		if !json.Valid([]byte(out)) {
			t.Errorf("%v: %s", args, out)
		}
	}
}

func TestListTable(t *testing.T) {
	var out bytes.Buffer
	err := writeTable(&out, []container.Info{{ID: "x1", PID: 15609, Status: "created", Bundle: "/tmp/b", Created: time.Unix(0, 0).UTC(), Owner: "root"}})
	want := "ID          PID         STATUS      BUNDLE      CREATED                OWNER\n" +
		"x1          15609       created     /tmp/b      1970-01-01T00:00:00Z   root\n"
	if err != nil || out.String() != want {
		t.Errorf("%v\n%s", err, out.String())
	}
}

func TestProcessTable(t *testing.T) {
	now := time.Date(2026, 5, 6, 7, 8, 9, 0, time.Local)
	var out bytes.Buffer
	err := writeProcesses(&out, []*api.Process{
		{Pid: 45, Ppid: 1, Uid: 0, StartedUnixNanos: now.Add(-time.Hour).UnixNano(), CpuNanos: int64(3723 * time.Second), Tty: "?", Command: "sleep 100"},
		{Pid: 46, Uid: 4000000000, StartedUnixNanos: now.Add(-48 * time.Hour).UnixNano(), Tty: "\x1b[2J", Command: "evil\u009b2J"},
	}, now)
	want := "UID          PID    PPID  C STIME TTY          TIME CMD\n" +
		"root          45       1  0 06:08 ?        01:02:03 sleep 100\n" +
		"#4000000000      46       0  0 May04 ?[2J     00:00:00 evil?2J\n"
	if err != nil || out.String() != want {
		t.Errorf("%v\n%s", err, out.String())
	}
}

// execArgs parses args as exec does, for a container whose bundle is dir.
func execArgs(t *testing.T, dir string, args ...string) (p *specs.Process, err error) {
	t.Helper()
	app := newApp()
	cmd := execCommand()
	cmd.Action = func(c *cli.Context) error {
		p, err = execProcess(c, dir)
		return nil
	}
	app.Commands = []*cli.Command{cmd}
	if rerr := app.Run(append([]string{"microvm-runtime", "exec"}, args...)); rerr != nil {
		t.Fatal(rerr)
	}
	return p, err
}

func TestExecProcess(t *testing.T) {
	dir := t.TempDir()
	if err := writeSpec(dir, false); err != nil {
		t.Fatal(err)
	}
	p, err := execArgs(t, dir, "--cwd", "/tmp", "-e", "A=b", "-e", "C=d,e", "--user", "7:8", "-g", "9", "--cap", "CAP_SYS_ADMIN", "id", "ls", "-l", "--tty")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Join(p.Args, " ") != "ls -l --tty" || p.Cwd != "/tmp" || p.Terminal || p.User.UID != 7 || p.User.GID != 8 || p.User.AdditionalGids[0] != 9 {
		t.Errorf("%+v", p)
	}
	if got := strings.Join(p.Env[len(p.Env)-2:], " "); got != "A=b C=d,e" {
		t.Errorf("environment %q", got)
	}
	if caps := p.Capabilities; caps.Bounding[3] != "CAP_SYS_ADMIN" || caps.Ambient != nil {
		t.Errorf("%+v", caps)
	}
	for _, args := range [][]string{{"id"}, {"--user", "bob", "id", "ls"}, {"--cwd", "rel", "id", "ls"}, {"-g", "-1", "id", "ls"}, {"--process", "/no/such", "id"}} {
		if _, err := execArgs(t, dir, args...); err == nil {
			t.Errorf("%v: no error", args)
		}
	}
}
