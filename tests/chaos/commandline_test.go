package chaos

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/tests/command"
	"github.com/microvm/microvm/tests/inventory"
)

// Scripts of containers: one runs until it is told to end, one ends by itself.
const (
	lasting = `trap "exit 3" TERM; touch /ready; while :; do sleep 0.05; done`
	brief   = "sleep 0.3; exit 5"
)

// ofCommandLine are what microvm-runtime does. BUNDLE and BRIEF are bundles, PID a file.
func ofCommandLine() []*operation {
	start, call := 3*time.Second, 300*time.Millisecond // guesses for the first round
	return []*operation{
		{name: "create", from: absent, args: []string{"create", "--bundle", "BUNDLE", "--pid-file", "PID", "ID"}, leads: []string{created}, took: start},
		{name: "run", from: absent, args: []string{"run", "--bundle", "BRIEF", "ID"}, code: 5, leads: []string{absent}, took: start},
		{name: "run --detach", from: absent, args: []string{"run", "--detach", "--bundle", "BUNDLE", "--pid-file", "PID", "ID"}, leads: []string{running}, took: start},
		{name: "start", from: created, args: []string{"start", "ID"}, leads: []string{running}, took: call},
		{name: "exec", from: running, args: []string{"exec", "ID", "sh", "-c", "sleep 0.2; exit 7"}, code: 7, leads: []string{running}, took: call},
		{name: "exec --detach", from: running, args: []string{"exec", "--detach", "ID", "sleep", "0.2"}, leads: []string{running}, took: call},
		{name: "pause", from: running, args: []string{"pause", "ID"}, leads: []string{paused}, took: call},
		{name: "resume", from: paused, args: []string{"resume", "ID"}, leads: []string{running}, took: call},
		{name: "kill TERM", from: running, args: []string{"kill", "ID", "TERM"}, leads: []string{stopped}, exit: 3, took: call},
		{name: "kill KILL", from: running, args: []string{"kill", "ID", "KILL"}, leads: []string{stopped}, exit: 137, took: call},
		{name: "delete", from: stopped, args: []string{"delete", "ID"}, leads: []string{absent}, took: call},
		{name: "delete --force", from: running, args: []string{"delete", "--force", "ID"}, leads: []string{absent}, between: []string{stopped}, took: start},
	}
}

// TestCommandLine disturbs microvm-runtime.
func TestCommandLine(t *testing.T) {
	operations := ofCommandLine()
	each(t, func(t *testing.T, random *rand.Rand) {
		c := newCommandLine(t, random)
		play(t, random, c, operations, c.harms())
	})
}

// commandLine is a container of microvm-runtime's, with a network and a state directory
// of its own.
type commandLine struct {
	t            *testing.T
	dir, id      string
	bundle, once string
	network      *network
	before       inventory.Inventory
	pid          int // of the monitor, once it was asked for
	code         int // its exit code
	collected    bool
}

func newCommandLine(t *testing.T, random *rand.Rand) *commandLine {
	t.Helper()
	dir := t.TempDir()
	c := &commandLine{t: t, dir: dir, id: fmt.Sprintf("chaos%d", os.Getpid()), bundle: filepath.Join(dir, "bundle"), once: filepath.Join(dir, "once")}
	c.network = newNetwork(t, random)
	c.before = inventory.Take(t, dir, c.id)
	if err := os.Mkdir(c.root(), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", c.root(), "tmpfs", 0, "size=1m,mode=700"); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *commandLine) root() string { return filepath.Join(c.dir, "state") }

// harms are all that can be done to it.
func (c *commandLine) harms() []*harm {
	monitor, vm := named("microvm-runtime"), named("microvm-vmm")
	all := slices.Concat(
		both("the call", false, itself), both("the monitor", true, monitor), both("the VM process", true, vm),
		c.network.harms(),
		[]*harm{
			crash(c), fullDisk(c.root()), fewDescriptors(),
			noMoreDescriptors("the monitor", monitor), noMoreDescriptors("the VM process", vm),
			noMoreThreads("the monitor", monitor), noMoreThreads("the VM process", vm),
			noMoreMemory("the monitor", monitor), noMoreMemory("the VM process", vm),
			limited("pids", func(r *rand.Rand) int { return 1 + r.IntN(60) }),
			limited("memory", func(r *rand.Rand) int { return (8 + r.IntN(200)) << 20 }),
		})
	if machine == "software" {
		all = append(all, both("QEMU", true, named("qemu-system"))...)
	}
	return all
}

func (c *commandLine) prepare(status string) {
	c.t.Helper()
	c.network.connect()
	command.New(c.t, "cp", "-a", template, filepath.Join(c.dir, "rootfs")).Output()
	c.writeBundle(c.bundle, lasting)
	c.writeBundle(c.once, brief)
	for _, args := range map[string][][]string{
		created: {{"create", "--bundle", "BUNDLE", "--pid-file", "PID", "ID"}},
		running: {{"run", "--detach", "--bundle", "BUNDLE", "--pid-file", "PID", "ID"}},
		paused:  {{"run", "--detach", "--bundle", "BUNDLE", "--pid-file", "PID", "ID"}, {"pause", "ID"}},
		stopped: {{"run", "--detach", "--bundle", "BUNDLE", "--pid-file", "PID", "ID"}, {"kill", "ID", "KILL"}},
	}[status] {
		command.New(c.t, c.command(args...).Args...).Detached()
	}
	command.Eventually(c.t, "the container is "+status, func() bool { return c.status() == status })
	if status == running {
		command.Eventually(c.t, "the container has set its trap", func() bool {
			_, err := os.Stat(filepath.Join(c.dir, "rootfs", "ready"))
			return err == nil
		})
	}
}

func (c *commandLine) writeBundle(dir, script string) {
	c.t.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		c.t.Fatal(err)
	}
	command.New(c.t, c.command("spec", "--bundle", dir).Args...).Output()
	file := filepath.Join(dir, "config.json")
	data, err := os.ReadFile(file)
	var spec specs.Spec
	if err == nil {
		err = json.Unmarshal(data, &spec)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	spec.Process.Args, spec.Process.Terminal = []string{"sh", "-c", script}, false
	spec.Root = &specs.Root{Path: filepath.Join(c.dir, "rootfs")}
	spec.Process.Env = append(spec.Process.Env, "PASSWORD="+secret)
	spec.Linux.ReadonlyPaths = nil // for the crash
	spec.Linux.Namespaces = slices.DeleteFunc(spec.Linux.Namespaces, func(ns specs.LinuxNamespace) bool { return ns.Type == specs.NetworkNamespace })
	if !c.network.user() {
		spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: c.network.path()})
	}
	if data, err = json.Marshal(&spec); err == nil {
		err = os.WriteFile(file, data, 0o600)
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *commandLine) command(args ...string) *exec.Cmd {
	words := map[string]string{"ID": c.id, "BUNDLE": c.bundle, "BRIEF": c.once, "PID": c.pidFile()}
	all := []string{"--root", c.root(), "--machine", machine}
	for _, a := range args {
		if word, ok := words[a]; ok {
			a = word
		}
		all = append(all, a)
	}
	return exec.Command(filepath.Join(binDir, "microvm-runtime"), all...)
}

func (c *commandLine) exec(script string) *exec.Cmd {
	return c.command("exec", "ID", "sh", "-c", script)
}

func (c *commandLine) run(args ...string) command.Outcome {
	c.t.Helper()
	return command.New(c.t, c.command(args...).Args...).Run()
}

func (c *commandLine) pidFile() string { return filepath.Join(c.dir, "pid") }

func (c *commandLine) status() string {
	c.t.Helper()
	o := c.run("state", "ID")
	if o.Code != 0 {
		if !strings.Contains(o.Stderr, "does not exist") {
			c.t.Errorf("state: %v", o)
		}
		return absent
	}
	var st specs.State
	if err := json.Unmarshal([]byte(o.Stdout), &st); err != nil {
		c.t.Fatalf("state: %v: %s", err, o.Stdout)
	}
	return string(st.Status)
}

func (c *commandLine) proves(status string) error {
	c.t.Helper()
	switch status {
	case created:
		if o := c.run("start", "ID"); o.Code != 0 {
			return fmt.Errorf("start: %v", o)
		}
	case paused:
		if o := c.run("resume", "ID"); o.Code != 0 {
			return fmt.Errorf("resume: %v", o)
		}
	}
	if o := c.run("exec", "ID", "echo", "here"); o.Code != 0 || o.Stdout != "here\n" {
		return fmt.Errorf("exec: %v", o)
	}
	return nil
}

// exitCode is that of the monitor, a child by now. It is to be called once the
// container is over.
func (c *commandLine) exitCode() (int, bool) {
	text, err := os.ReadFile(c.pidFile())
	if err != nil || c.collected {
		return c.code, c.collected
	}
	if c.pid, err = strconv.Atoi(string(text)); err != nil {
		return 0, false // it was being written
	}
	var ws unix.WaitStatus
	c.collected = eventually(func() bool {
		got, err := unix.Wait4(c.pid, &ws, unix.WNOHANG, nil)
		return err != nil || got == c.pid
	})
	if c.code = ws.ExitStatus(); ws.Signaled() {
		c.code = 128 + int(ws.Signal())
	}
	return c.code, c.collected
}

func (c *commandLine) clean() {
	c.t.Helper()
	if o := c.run("delete", "--force", "ID"); o.Code != 0 {
		c.t.Errorf("delete --force: %v", o)
	}
	if now := c.status(); now != absent {
		c.t.Errorf("deleted, and %s", now)
	}
	if left, err := os.ReadDir(c.root()); len(left) > 0 || err != nil {
		c.t.Errorf("left in the state directory: %v, %v", left, err)
	}
	c.network.clean()
	if err := unix.Unmount(c.root(), 0); err != nil {
		c.t.Errorf("unmount state directory: %v", err)
	}
	inventory.Compare(c.t, c.before)
}
