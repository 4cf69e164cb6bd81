// Package containerd runs containerd daemons for tests.
package containerd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// grace is for the start and the end of a daemon.
const grace = time.Minute

// Daemon is a containerd that has all that it keeps in one directory.
type Daemon struct {
	// Bin has containerd and ctr.
	Bin string
	// Dir has the daemon's configuration, config.toml, which is to name the
	// socket there, and its log.
	Dir string
	// Path is where it looks for shims and runtimes, a list as in PATH.
	Path string
	// Network is the path of the network namespace that is the host's to it, empty
	// for the caller's.
	Network string
	process *exec.Cmd
}

// Version is that of the containerd in a directory, without what comes after its
// numbers.
func Version(bin string) (string, error) {
	out, err := exec.Command(filepath.Join(bin, "containerd"), "--version").Output()
	if err != nil {
		return "", fmt.Errorf("find containerd in %s: %w", bin, err)
	}
	f := strings.Fields(string(out))
	if len(f) < 3 {
		return "", fmt.Errorf("find version of containerd in %q", out)
	}
	return strings.FieldsFunc(strings.TrimPrefix(f[2], "v"), func(r rune) bool { return r == '~' || r == '+' })[0], nil
}

// KnowsSandboxes tells whether a containerd of that version has the sandbox API.
func KnowsSandboxes(version string) bool { return strings.HasPrefix(version, "2.") }

// Write writes files of the daemon's, by name. DIR stands for the directory in
// them, and other words for others as in [strings.NewReplacer].
func (d *Daemon) Write(files map[string]string, words ...string) error {
	fill := strings.NewReplacer(append([]string{"DIR", d.Dir}, words...)...)
	for name, text := range files {
		name = filepath.Join(d.Dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(fill.Replace(text)), 0o600)); err != nil {
			return err
		}
	}
	return nil
}

// Start runs the daemon until it answers.
func (d *Daemon) Start() error {
	log, err := os.OpenFile(d.LogFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	if err := settleNetworks(); err != nil {
		return err
	}
	call := []string{filepath.Join(d.Bin, "containerd"), "--config", filepath.Join(d.Dir, "config.toml")}
	if d.Network != "" {
		call = append([]string{"nsenter", "--net=" + d.Network, "--"}, call...)
	}
	d.process = exec.Command(call[0], call[1:]...)
	d.process.Env = append(os.Environ(), "PATH="+d.Path)
	d.process.Stdout, d.process.Stderr = log, log
	if err := d.process.Start(); err != nil {
		return err
	}
	for end := time.Now().Add(grace); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if exec.Command(filepath.Join(d.Bin, "ctr"), "--address", d.Socket(), "version").Run() == nil {
			return nil
		}
	}
	return fmt.Errorf("%s/containerd does not answer: %s", d.Bin, d.Log(0))
}

// settleNetworks has `ip netns` make a mount of its own of the directory in which the
// networks of pods are mounted, too. Its first call does so, and takes what is mounted
// there along: a pod of before it can then not be removed by any runtime, as its
// namespace is mounted once more below ("device or resource busy").
func settleNetworks() error {
	name := fmt.Sprintf("settle-%d", os.Getpid())
	for _, verb := range []string{"add", "del"} {
		if said, err := exec.Command("ip", "netns", verb, name).CombinedOutput(); err != nil {
			return fmt.Errorf("ip netns %s: %w: %s", verb, err, said)
		}
	}
	return nil
}

// PID is that of the daemon, which has been started.
func (d *Daemon) PID() int { return d.process.Process.Pid }

// Kill ends the daemon as a crash would.
func (d *Daemon) Kill() error {
	if err := d.process.Process.Kill(); err != nil {
		return err
	}
	_ = d.process.Wait() // it was killed
	return nil
}

// Stop ends the daemon, if it was started.
func (d *Daemon) Stop() {
	if d.process == nil || d.process.Process == nil {
		return
	}
	_ = d.process.Process.Signal(os.Interrupt)
	hang := time.AfterFunc(grace, func() { _ = d.process.Process.Kill() })
	defer hang.Stop()
	_ = d.process.Wait() // its end is all that matters
}

// Socket is the daemon's.
func (d *Daemon) Socket() string { return filepath.Join(d.Dir, "sock") }

// LogFile has what the daemon and its shims log.
func (d *Daemon) LogFile() string { return filepath.Join(d.Dir, "log") }

// Log is the log from offset on.
func (d *Daemon) Log(offset int64) string {
	f, err := os.Open(d.LogFile())
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	var text bytes.Buffer
	_, err = f.Seek(offset, io.SeekStart)
	if _, cerr := io.Copy(&text, f); err != nil || cerr != nil {
		return errors.Join(err, cerr).Error()
	}
	return text.String()
}
