package engines

import (
	"bytes"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/microvm/microvm/tests/command"
	"github.com/microvm/microvm/tests/lab/labtest"
)

// testEngine is what podman and docker have in common.
func testEngine(t *testing.T, e *engine) {
	for name, test := range map[string]func(*testing.T, *engine){
		"process": testProcess, "limits": testLimits, "files": testFiles, "rights": testRights,
		"privileged": testPrivileged, "failures": testFailures, "life": testLife, "terminal": testTerminal, "stdin": testStdin,
		"out of memory": testOutOfMemory,
	} {
		t.Run(name, func(t *testing.T) {
			if !slices.Contains([]string{"life", "terminal", "stdin"}, name) {
				labtest.SameOnBoth(t)
			}
			test(t, e)
		})
	}
}

func testProcess(t *testing.T, e *engine) {
	script := `uname -r | grep -c microvm; hostname; echo $A; pwd; id -u; id -G; cat /proc/self/oom_score_adj; sed -n 's/^Seccomp:\t//p' /proc/self/status; exit 7`
	e.container(t, "--rm", "--hostname", "named", "--env", "A=b c", "--workdir", "/var", "--user", "1000:1001", "--group-add", "42",
		"--oom-score-adj", "100", image, "sh", "-c", script).
		Wants(7, "1", "named", "b c", "/var", "1000", "1001 42", "100", "2")
}

func testOutOfMemory(t *testing.T, e *engine) {
	if o := e.container(t, "--name", "hungry", "--memory", "64m", image, "tail", "/dev/zero").Run(); o.Code != 137 {
		t.Errorf("%v", o)
	}
	command.Eventually(t, "the engine knows why the container ended", func() bool {
		return strings.TrimSpace(e.command(t, "inspect", "--format", "{{.State.OOMKilled}}", "hungry").Output()) == "true"
	})
	e.command(t, "rm", "hungry").Output()
	if _, err := os.Stat("oom"); err == nil {
		t.Error("there is a file oom where the engine was called")
	}
}

func testLimits(t *testing.T, e *engine) {
	script := `cd /sys/fs/cgroup; cat memory.max cpu.max pids.max; ulimit -n; cat /proc/sys/net/core/somaxconn; df -k /dev/shm | awk 'END {print $2}'; nproc`
	e.container(t, "--rm", "--memory", "64m", "--cpus", "0.5", "--pids-limit", "50", "--ulimit", "nofile=123:123",
		"--sysctl", "net.core.somaxconn=512", "--shm-size", "10m", image, "sh", "-c", script).
		Wants(0, "67108864", "50000 100000", "50", "123", "512", "10240", "1")
}

func testFiles(t *testing.T, e *engine) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("of the host\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	script := `cat /rw/file /etc/one; echo new > /rw/new; cat /ro/new; echo named > /named/file; cat /named/file; echo t > /t/file; cat /t/file
		for f in /root/f /ro/f; do echo no 2>/dev/null > $f || echo refused $f; done`
	e.container(t, "--rm", "--read-only", "--tmpfs", "/t:size=1m", "--volume", dir+":/rw", "--volume", dir+":/ro:ro",
		"--volume", filepath.Join(dir, "file")+":/etc/one", "--volume", "volume:/named", image, "sh", "-c", script).
		Wants(0, "of the host", "of the host", "new", "named", "t", "refused /root/f", "refused /ro/f")
	if got, err := os.ReadFile(filepath.Join(dir, "new")); err != nil || string(got) != "new\n" {
		t.Errorf("the host reads %q, %v", got, err)
	}
}

func testRights(t *testing.T, e *engine) {
	script := `mount -t tmpfs none /mnt && echo mounted; chown 1 /etc/passwd 2>/dev/null || echo no chown; sed -n 's/^Seccomp:\t//p' /proc/self/status; ls -l /dev/fuse | cut -c1`
	e.container(t, "--rm", "--cap-drop", "all", "--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined", "--device", "/dev/fuse",
		image, "sh", "-c", script).Wants(0, "mounted", "no chown", "0", "c")
}

func testPrivileged(t *testing.T, e *engine) {
	script := `mount -t tmpfs none /mnt && echo mounted; test -c /dev/fuse && echo device; tr '\0' '\n' < /proc/1/cmdline | head -1 | grep -c -e init -e dev`
	e.container(t, "--rm", "--privileged", "--init", image, "sh", "-c", script).Wants(0, "mounted", "device", "1")
}

func testFailures(t *testing.T, e *engine) {
	if o := e.container(t, "--rm", image, "nosuch").Run(); o.Code != 127 || !strings.Contains(o.Stderr, "not found") {
		t.Errorf("a program that does not exist: %v", o)
	}
	if o := e.container(t, "--rm", "--volume", "/dev/log-of-nobody:/x", "--device", "/dev/nosuch", image, "true").Run(); o.Code == 0 {
		t.Errorf("a device that does not exist: %v", o)
	}
}

func testLife(t *testing.T, e *engine) {
	script := `echo started; trap 'echo stopping; exit 3' TERM; while :; do sleep 0.1; done`
	e.container(t, "--detach", "--name", "life", image, "sh", "-c", script).Output()
	command.Eventually(t, "the container runs", func() bool { return e.command(t, "logs", "life").Output() == "started\n" })
	e.command(t, "exec", "life", "sh", "-c", "echo hi; exit 9").Wants(9, "hi")
	e.command(t, "exec", "--interactive", "--user", "65534", "--env", "A=b", "--workdir", "/var", "life", "sh", "-c", "cat; id -un; echo $A; pwd").
		Input(strings.NewReader("in\n")).Wants(0, "in", "nobody", "b", "/var")
	// podman asks the container's own ps, docker the host's about the pid that
	// stands for the container.
	want := map[string]string{"podman": "sh -c echo started", "docker": "microvm-runtime"}[e.name]
	if top := e.command(t, "top", "life", "-ef").Output(); !strings.Contains(top, want) {
		t.Errorf("top: %s", top)
	}
	testCopy(t, e)
	testFreeze(t, e)
	e.command(t, "update", "--memory", "96m", "--memory-swap", "96m", "life").Output()
	e.command(t, "exec", "life", "cat", "/sys/fs/cgroup/memory.max").Wants(0, "100663296")
	e.command(t, "stop", "--time", "60", "life").Wants(0, "life")
	e.command(t, "wait", "life").Wants(0, "3")
	if got := e.command(t, "logs", "life").Output(); got != "started\nstopping\n" {
		t.Errorf("logs: %q", got)
	}
	e.command(t, "start", "life").Wants(0, "life")
	e.command(t, "inspect", "--format", "{{.State.Status}}", "life").Wants(0, "running")
	e.command(t, "kill", "life").Wants(0, "life")
	e.command(t, "wait", "life").Wants(0, "137")
	e.command(t, "rm", "life").Wants(0, "life")
}

func testCopy(t *testing.T, e *engine) {
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	if err := os.WriteFile(in, []byte("copied"), 0o644); err != nil {
		t.Fatal(err)
	}
	e.command(t, "cp", in, "life:/root/copy").Output()
	e.command(t, "exec", "life", "sh", "-c", "cat /root/copy; echo; echo made > /root/made").Wants(0, "copied")
	e.command(t, "cp", "life:/root/made", out).Output()
	if got, err := os.ReadFile(out); err != nil || string(got) != "made\n" {
		t.Errorf("copied out: %q, %v", got, err)
	}
}

func testFreeze(t *testing.T, e *engine) {
	e.command(t, "pause", "life").Output()
	e.command(t, "inspect", "--format", "{{.State.Status}}", "life").Wants(0, "paused")
	e.command(t, "unpause", "life").Output()
	e.command(t, "exec", "life", "echo", "awake").Wants(0, "awake")
}

func testStdin(t *testing.T, e *engine) {
	data := make([]byte, 3<<20+1)
	rand.New(rand.NewSource(1)).Read(data)
	o := e.container(t, "--rm", "--interactive", image, "cat").Input(bytes.NewReader(data)).Run()
	if o.Code != 0 || o.Stdout != string(data) {
		t.Errorf("exit code %d, %d of %d bytes, %s", o.Code, len(o.Stdout), len(data), o.Stderr)
	}
}

func buildContext(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	recipe := "FROM " + image + "\nRUN uname -r | grep -c microvm > /built\nCMD [\"cat\", \"/built\"]\n"
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(recipe), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func builtOutput(t *testing.T, e *engine) {
	t.Helper()
	e.container(t, "--rm", "built").Wants(0, "1")
}
