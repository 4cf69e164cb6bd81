package chaos

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/tests/busybox"
	"github.com/microvm/microvm/tests/command"
	"github.com/microvm/microvm/tests/containerd"
	"github.com/microvm/microvm/tests/inventory"
)

const image = "localhost/busybox:latest"

// runtime may be another one, to compare.
var runtime = cmp.Or(os.Getenv("MICROVM_RUNTIME"), "io.containerd.microvm.v1")

// configuration keeps everything below one directory.
const configuration = `version = 2
root = "DIR/root"
state = "DIR/state"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime"]
[grpc]
  address = "DIR/sock"
[plugins."io.containerd.nri.v1.nri"]
  disable = true
[debug]
  level = "debug"
`

// launch is a call of ctr that starts a container. NETWORK are the options for its network.
func launch(script string) []string {
	return []string{"run", "--detach", "NETWORK", "--runtime", runtime, "--annotation", "io.microvm.machine=" + machine, "--env", "PASSWORD=" + secret, "--fifo-dir", "FIFOS", image, "ID", "sh", "-c", script}
}

// ofContainerd are what ctr does.
func ofContainerd() []*operation {
	start, call := 3*time.Second, 300*time.Millisecond // guesses for the first round
	return []*operation{
		{name: "run", from: absent, args: launch(lasting), leads: []string{running}, took: start},
		{name: "exec", from: running, args: []string{"tasks", "exec", "--exec-id", "disturbed", "--fifo-dir", "FIFOS", "ID", "sh", "-c", "sleep 0.2; exit 7"}, code: 7, leads: []string{running}, took: call},
		{name: "pause", from: running, args: []string{"tasks", "pause", "ID"}, leads: []string{paused}, took: call},
		{name: "resume", from: paused, args: []string{"tasks", "resume", "ID"}, leads: []string{running}, took: call},
		{name: "kill TERM", from: running, args: []string{"tasks", "kill", "--signal", "SIGTERM", "ID"}, leads: []string{stopped}, took: call},
		{name: "kill KILL", from: running, args: []string{"tasks", "kill", "--signal", "SIGKILL", "ID"}, leads: []string{stopped}, took: call},
		{name: "delete", from: stopped, args: []string{"tasks", "delete", "ID"}, leads: []string{absent}, took: call},
		{name: "delete --force", from: running, args: []string{"tasks", "delete", "--force", "ID"}, leads: []string{absent}, between: []string{stopped}, took: start},
	}
}

// TestContainerd disturbs containerd with the shim.
func TestContainerd(t *testing.T) {
	list := filepath.SplitList(os.Getenv("MICROVM_CONTAINERD"))
	if len(list) == 0 {
		t.Skip("needs MICROVM_CONTAINERD")
	}
	d := newDaemon(t, list[len(list)-1])
	operations := ofContainerd()
	each(t, func(t *testing.T, random *rand.Rand) {
		c := &task{Daemon: d, t: t, id: fmt.Sprintf("chaos%d-%d", os.Getpid(), serial.Add(1)), fifos: t.TempDir(), logged: len(d.Log(0))}
		c.network = newNetwork(t, random)
		c.network.connect()
		c.before = inventory.Take(t, d.Dir, c.id)
		play(t, random, c, operations, c.harms())
	})
}

var serial atomic.Int32

// newDaemon starts a containerd, whose state is on a small file system, with an
// image.
func newDaemon(t *testing.T, bin string) *containerd.Daemon {
	t.Helper()
	dir, err := os.MkdirTemp("", "chaos-") // sockets have short names
	if err != nil {
		t.Fatal(err)
	}
	d := &containerd.Daemon{Bin: bin, Dir: dir, Path: bin + ":" + binDir + ":" + os.Getenv("PATH")}
	state := filepath.Join(dir, "state")
	if err := d.Write(map[string]string{"config.toml": configuration, "state/empty": ""}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", state, "tmpfs", 0, "size=2m,mode=711"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.Stop()
		if err := unix.Unmount(state, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", state, err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	archive := filepath.Join(dir, "image.tar")
	if err := busybox.Image(archive, image, template); err != nil {
		t.Fatal(err)
	}
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	command.New(t, filepath.Join(bin, "ctr"), "--address", d.Socket(), "images", "import", archive).Output()
	return d
}

// task is a container of containerd's.
type task struct {
	*containerd.Daemon
	t         *testing.T
	id, fifos string
	network   *network
	before    inventory.Inventory
	logged    int
}

func (c *task) harms() []*harm {
	shim := both("the shim", true, named("containerd-shim"))
	shim = append(shim, noMoreThreads("the shim", named("containerd-shim")), noMoreMemory("the shim", named("containerd-shim")))
	for _, h := range shim {
		if h.deadly {
			h.leads = []string{absent} // containerd forgets it
		}
	}
	all := slices.Concat(
		both("the call", false, itself), shim, c.network.harms(),
		both("the VM process", true, named("microvm-vmm")),
		[]*harm{crash(c), noMoreThreads("the VM process", named("microvm-vmm")), noMoreMemory("the VM process", named("microvm-vmm")), fullDisk(filepath.Join(c.Dir, "state")), c.killed(),
			noMoreDescriptors("the shim", named("containerd-shim")), noMoreDescriptors("the VM process", named("microvm-vmm")),
			signalled("containerd", unix.SIGSTOP, false, c.daemon)})
	if machine == "software" {
		all = append(all, both("QEMU", true, named("qemu-system"))...)
	}
	return all
}

func (c *task) daemon(int) []int { return []int{c.PID()} }

// killed kills the daemon and starts it again after the call.
func (c *task) killed() *harm {
	h := &harm{name: "SIGKILL to containerd"}
	h.before = func(t *testing.T, _ *rand.Rand, _ *exec.Cmd) func() {
		return func() {
			if err := c.Start(); h.hit && err != nil {
				t.Fatal(err)
			}
		}
	}
	h.during = func(t *testing.T, _ *rand.Rand, _ int) {
		h.hit = true
		if err := c.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

func (c *task) prepare(status string) {
	c.t.Helper()
	calls := map[string][][]string{
		running: {launch(lasting)},
		paused:  {launch(lasting), {"tasks", "pause", "ID"}},
		stopped: {launch(lasting), {"tasks", "kill", "--signal", "SIGKILL", "ID"}},
	}
	for _, args := range calls[status] {
		command.New(c.t, c.command(args...).Args...).Output()
	}
	command.Eventually(c.t, "the task is "+status, func() bool { return c.status() == status })
	if status == running {
		command.Eventually(c.t, "the container has set its trap", func() bool {
			return command.New(c.t, c.exec("test -e /ready").Args...).Run().Code == 0
		})
	}
}

func (c *task) command(args ...string) *exec.Cmd {
	words := map[string]string{"ID": c.id, "FIFOS": c.fifos}
	all := []string{"--address", c.Socket()}
	for _, a := range args {
		if a == "NETWORK" {
			all = append(all, c.networkOptions()...)
			continue
		}
		if word, ok := words[a]; ok {
			a = word
		}
		all = append(all, a)
	}
	return exec.Command(filepath.Join(c.Bin, "ctr"), all...)
}

func (c *task) networkOptions() []string {
	if c.network.user() {
		return []string{"--net-host", "--annotation", "io.microvm.network=user"}
	}
	return []string{"--with-ns", "network:" + c.network.path()}
}

func (c *task) exec(script string) *exec.Cmd {
	name := fmt.Sprintf("e%d", serial.Add(1))
	return c.command("tasks", "exec", "--exec-id", name, "--fifo-dir", c.fifos, "ID", "sh", "-c", script)
}

func (c *task) run(args ...string) command.Outcome {
	c.t.Helper()
	return command.New(c.t, c.command(args...).Args...).Run()
}

func (c *task) status() string {
	c.t.Helper()
	o := c.run("tasks", "list")
	if o.Code != 0 {
		return "not told: " + o.String()
	}
	for line := range strings.Lines(o.Stdout) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == c.id {
			return strings.ToLower(f[2])
		}
	}
	return absent
}

func (c *task) proves(status string) error {
	c.t.Helper()
	switch status {
	case created:
		if o := c.run("tasks", "start", "--detach", "ID"); o.Code != 0 {
			return fmt.Errorf("start: %v", o)
		}
	case paused:
		if o := c.run("tasks", "resume", "ID"); o.Code != 0 {
			return fmt.Errorf("resume: %v", o)
		}
	}
	if o := command.New(c.t, c.exec("echo here").Args...).Run(); o.Code != 0 || o.Stdout != "here\n" {
		return fmt.Errorf("exec: %v", o)
	}
	return nil
}

// exitCode is told by no call of ctr.
func (c *task) exitCode() (int, bool) { return 0, false }

func (c *task) clean() {
	c.t.Helper()
	if now := c.status(); now != absent {
		// The deletion of a containerd that was killed may come before this one.
		if o := c.run("tasks", "delete", "--force", "ID"); o.Code != 0 && c.status() != absent {
			c.t.Errorf("delete %s task: %v", now, o)
		}
	}
	if c.run("containers", "info", "ID").Code == 0 {
		if o := c.run("containers", "delete", "ID"); o.Code != 0 {
			c.t.Errorf("delete container: %v", o)
		}
	}
	c.cleanAgain()
	c.network.clean()
	inventory.Compare(c.t, c.before)
	text := c.Log(int64(c.logged))
	if crashed(text) || strings.Contains(text, secret) {
		c.t.Error("a program of the project crashed, or containerd, or the container's environment is in the log")
	}
	if c.t.Failed() {
		c.t.Logf("end of the log: %s", text[max(0, len(text)-6<<10):])
	}
}

// cleanAgain has containerd finish what it did not: it leaves the shim of a task which
// is gone, whatever the runtime, when it is killed or its caller goes away after the
// shim has deleted the task. The same deletion again, or its own next start, cleans up.
func (c *task) cleanAgain() {
	c.t.Helper()
	gone := func() bool { return len(c.files()) == 0 && len(inventory.Descendants("containerd-shim")) == 0 }
	if eventually(gone) { // in containerd's own time
		return
	}
	_ = c.run("tasks", "delete", "--force", "ID") // it may not know of it
	if err := errors.Join(c.Kill(), c.Start()); err != nil {
		c.t.Fatal(err)
	}
	if !eventually(gone) {
		c.t.Errorf("left behind: %v, shims %v", c.files(), inventory.Descendants("containerd-shim"))
	}
}

// files are files named after the container.
func (c *task) files() (all []string) {
	for _, pattern := range []string{
		filepath.Join(c.Dir, "state", "*", "*", c.id), filepath.Join(c.Dir, "root", "*task*", "*", c.id),
	} {
		found, _ := filepath.Glob(pattern)
		all = append(all, found...)
	}
	return all
}
