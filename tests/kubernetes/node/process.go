package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// patience is for the start and the end of a program.
var patience = Patience(2 * time.Minute)

// Patience is how long to wait for what takes a host less than d: in the lab, one
// processor that is emulated does everything.
func Patience(d time.Duration) time.Duration {
	if os.Getenv("LAB") != "" {
		return 10 * d
	}
	return d
}

// process is a program of the node's that was started.
type process struct {
	Args []string
	Pid  int
	// Started is when, in the kernel's clock ticks: another process has
	// another one, if it has the pid.
	Started string
}

// alive tells whether it still runs.
func (p process) alive() bool {
	state, started, err := statusOf(p.Pid)
	return err == nil && state != "Z" && started == p.Started
}

// statusOf is a process's state and its start.
func statusOf(pid int) (state, started string, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", "", err
	}
	// The command's name may have anything in it.
	f := strings.Fields(string(stat)[strings.LastIndexByte(string(stat), ')')+1:])
	if len(f) < 20 {
		return "", "", fmt.Errorf("read status of process %d: %q", pid, stat)
	}
	return f[0], f[19], nil
}

func (n *Node) recordFile(name string) string { return n.path("run", name+".json") }

func (n *Node) record(name string) (p process, err error) {
	text, err := os.ReadFile(n.recordFile(name))
	if err != nil {
		return p, err
	}
	return p, json.Unmarshal(text, &p)
}

// spawn starts a program that stays when this one ends.
func (n *Node) spawn(name string, args []string) error {
	log, err := os.OpenFile(n.logFile(name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "PATH="+n.searchPath())
	cmd.Dir, cmd.Stdout, cmd.Stderr = n.Dir, log, log
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	p := process{Args: args, Pid: cmd.Process.Pid}
	_, p.Started, err = statusOf(p.Pid)
	go func() { _ = cmd.Wait() }() // lest it is a zombie while this program runs
	text, merr := json.Marshal(p)
	return errors.Join(err, merr, os.WriteFile(n.recordFile(name), text, 0o600))
}

// startAll starts programs of the node's, and then waits until all of them work.
func (n *Node) startAll(names ...string) error {
	for _, name := range names {
		if err := n.spawn(name, n.commandLine(name)); err != nil {
			return fmt.Errorf("start %s: %w", name, err)
		}
	}
	for _, name := range names {
		if err := n.awaitAnswer(name); err != nil {
			return err
		}
	}
	return nil
}

// awaitAnswer waits until a program that runs works.
func (n *Node) awaitAnswer(name string) error {
	p, err := n.record(name)
	for end := time.Now().Add(patience); err == nil; time.Sleep(200 * time.Millisecond) {
		if err = n.probe(name); err == nil {
			return nil
		}
		if p.alive() && time.Now().Before(end) {
			err = nil
		}
	}
	return fmt.Errorf("%s does not work: %w: its log ends with:\n%s", name, err, tail(n.Log(name), 20))
}

// Kill ends one of the node's programs with a signal and waits for its end.
func (n *Node) Kill(name string, signal unix.Signal) error {
	p, err := n.record(name)
	if errors.Is(err, os.ErrNotExist) || err == nil && !p.alive() {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find process of %s: %w", name, err)
	}
	return end(name, p, signal)
}

// end is patient once, and kills then.
func end(name string, p process, signal unix.Signal) error {
	for _, s := range []unix.Signal{signal, unix.SIGKILL} {
		if err := unix.Kill(p.Pid, s); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("end %s: %w", name, err)
		}
		for limit := time.Now().Add(patience / 4); time.Now().Before(limit); time.Sleep(50 * time.Millisecond) {
			if !p.alive() {
				return nil
			}
		}
	}
	return fmt.Errorf("end %s: process %d does not go away", name, p.Pid)
}

// Restart ends one of the node's programs with a signal, starts it anew and waits
// until it works.
func (n *Node) Restart(name string, signal unix.Signal) error {
	if err := n.Kill(name, signal); err != nil {
		return err
	}
	return n.startAll(name)
}

// Amend adds lines to the configuration of one of the node's programs, and starts it
// anew. What it returns takes them back.
func (n *Node) Amend(name, lines string) (restore func() error, err error) {
	file := n.path(name + ".yaml")
	was, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	write := func(text string) error {
		return errors.Join(os.WriteFile(file, []byte(text), 0o600), n.Restart(name, unix.SIGTERM))
	}
	restore = func() error { return write(string(was)) }
	if err := write(string(was) + lines); err != nil {
		return nil, errors.Join(err, restore())
	}
	return restore, nil
}

// Shims are the pids of those of the sandbox id, or of all.
func (n *Node) Shims(id string) (pids []int) {
	for _, p := range n.strays() {
		if i := slices.Index(p.Args, "-id"); i >= 0 && i+1 < len(p.Args) && (id == "" || p.Args[i+1] == id) {
			pids = append(pids, p.Pid)
		}
	}
	return pids
}

// strays are the processes that are on the node's account by their command line
// (shims, and what these have started), but for its programs.
func (n *Node) strays() (found []process) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		line, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if err != nil || pid == os.Getpid() || !ours(string(line), n) {
			continue
		}
		p := process{Args: strings.Split(strings.TrimRight(string(line), "\x00"), "\x00"), Pid: pid}
		if _, p.Started, err = statusOf(pid); err == nil {
			found = append(found, p)
		}
	}
	return found
}

// ours tells whether a command line is that of a shim of the node's containerd, or
// of a program that was installed for it.
func ours(line string, n *Node) bool {
	return strings.HasPrefix(line, n.path("usr")+"/") || strings.Contains(line, "-address\x00"+n.Socket()+"\x00")
}

// Crictl runs crictl with the node's containerd.
func (n *Node) Crictl(args ...string) (string, error) {
	endpoint := "unix://" + n.Socket()
	return n.output("", filepath.Join(n.Programs.Containerd, "crictl"),
		append([]string{"--runtime-endpoint", endpoint, "--image-endpoint", endpoint, "--timeout", patience.String()}, args...)...)
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// output runs a program to its end, and returns its standard output.
func (n *Node) output(stdin string, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "PATH="+n.searchPath(), "KUBECONFIG="+n.Kubeconfig())
	var stdout, stderr strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s %s: %w: %s", filepath.Base(name), strings.Join(args, " "), err, tail(stderr.String(), 10))
	}
	return stdout.String(), nil
}
