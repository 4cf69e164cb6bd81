package shim

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

// daemon is a containerd with storage of its own.
type daemon struct {
	// name has the version.
	name     string
	bin, dir string
	// handlers are those of CRI's runtimes: with a container as the sandbox
	// of a pod and, in the 2.x line, with the shim's own sandbox.
	handlers []string
	process  *exec.Cmd
}

// start-up and end of a daemon.
const daemonGrace = time.Minute

// onDisks is the handler whose root file systems are on disks.
const onDisks = "ondisks"

// sandboxed is the handler with the shim's own sandboxes.
const sandboxed = "sandboxed"

// configuration keeps everything below one directory, and makes the shim the
// runtime of CRI's pods.
const configuration = `version = 2
root = "DIR/root"
state = "DIR/state"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
  address = "DIR/sock"
[plugins."io.containerd.nri.v1.nri"]
  disable = true
[plugins."io.containerd.snapshotter.v1.blockfile"]
  scratch_file = "DIR/scratch"
  fs_type = "ext4"
[plugins."io.containerd.snapshotter.v1.erofs"]
  default_size = "24MiB"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "IMAGE"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "DIR/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "microvm"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.microvm]
      runtime_type = "io.containerd.microvm.v1"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.microvm.options]
        ConfigPath = "DIR/microvm.toml"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.ondisks]
      runtime_type = "io.containerd.microvm.v1"
      snapshotter = "blockfile"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.ondisks.options]
        ConfigPath = "DIR/microvm.toml"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.sandboxed]
      runtime_type = "io.containerd.microvm.v1"
      sandboxer = "shim"
      disable_pause_image_pull = true
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.sandboxed.options]
        ConfigPath = "DIR/microvm.toml"
`

// networkList is the network of pods. It leaves nothing on the host when they
// are gone.
const networkList = `{
	"cniVersion": "0.4.0", "name": "pods",
	"plugins": [{"type": "ptp", "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.78.0.0/16"}]], "dataDir": "DIR/addresses"}}]
}`

// newDaemon starts the containerd in bin with storage in dir and the image.
func newDaemon(bin, dir string) (*daemon, error) {
	d, err := makeDaemon(bin, dir, configuration)
	if err != nil {
		return nil, err
	}
	return d, d.begin()
}

// makeDaemon prepares one that begin starts, with the text as its configuration.
func makeDaemon(bin, dir, text string) (*daemon, error) {
	out, err := exec.Command(filepath.Join(bin, "containerd"), "--version").Output()
	if err != nil {
		return nil, fmt.Errorf("find containerd in %s: %w", bin, err)
	}
	version := strings.Fields(string(out))[2]
	d := &daemon{name: "containerd-" + strings.FieldsFunc(version, func(r rune) bool { return r == '~' || r == '+' })[0], bin: bin, dir: dir, handlers: []string{"microvm"}}
	if strings.HasPrefix(version, "v2.") || strings.HasPrefix(version, "2.") {
		d.handlers = append(d.handlers, sandboxed)
	}
	if err := os.MkdirAll(filepath.Join(dir, "cni"), 0o755); err != nil {
		return nil, err
	}
	fill := strings.NewReplacer("DIR", dir, "IMAGE", image)
	for name, text := range map[string]string{
		"config.toml": text, "cni/pods.conflist": networkList, "microvm.toml": fmt.Sprintf("machine = %q\nnetwork = \"user\"\n", machine),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(fill.Replace(text)), 0o600); err != nil {
			return nil, err
		}
	}
	if said, err := exec.Command("mke2fs", "-q", "-t", "ext4", filepath.Join(dir, "scratch"), "24M").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("make scratch image: %w: %s", err, said)
	}
	return d, nil
}

// begin is the first start.
func (d *daemon) begin() error {
	err := d.start()
	for _, ns := range []string{namespace, podNamespace} {
		if err == nil {
			err = d.importImage(ns)
		}
	}
	if err != nil {
		d.stop()
	}
	return err
}

func (d *daemon) importImage(namespace string) error {
	said, err := d.ctr("--namespace", namespace, "images", "import", imageFile).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: import image: %w: %s", d.name, err, said)
	}
	return nil
}

func (d *daemon) state() string   { return filepath.Join(d.dir, "state") }
func (d *daemon) socket() string  { return filepath.Join(d.dir, "sock") }
func (d *daemon) logFile() string { return filepath.Join(d.dir, "log") }

// start runs the daemon until it answers.
func (d *daemon) start() error {
	log, err := os.OpenFile(d.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	d.process = exec.Command(filepath.Join(d.bin, "containerd"), "--config", filepath.Join(d.dir, "config.toml"))
	// The daemon's own directory first: it has the shim for runc.
	d.process.Env = append(os.Environ(), "PATH="+d.bin+":"+binDir+":"+os.Getenv("PATH"))
	d.process.Stdout, d.process.Stderr = log, log
	if err := d.process.Start(); err != nil {
		return err
	}
	for end := time.Now().Add(daemonGrace); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if d.ctr("version").Run() == nil {
			return nil
		}
	}
	return fmt.Errorf("%s does not answer: %s", d.name, d.log(0))
}

// kill ends the daemon as a crash would.
func (d *daemon) kill() error {
	if err := d.process.Process.Kill(); err != nil {
		return err
	}
	_ = d.process.Wait() // it was killed
	return nil
}

func (d *daemon) stop() {
	if d.process == nil || d.process.Process == nil {
		return
	}
	_ = d.process.Process.Signal(os.Interrupt)
	hang := time.AfterFunc(daemonGrace, func() { _ = d.process.Process.Kill() })
	defer hang.Stop()
	_ = d.process.Wait()
}

// ctrArgs is a call of the daemon's client.
func (d *daemon) ctrArgs(args ...string) []string {
	return append([]string{filepath.Join(d.bin, "ctr"), "--address", d.socket(), "--namespace", namespace}, args...)
}

func (d *daemon) ctr(args ...string) *exec.Cmd {
	all := d.ctrArgs(args...)
	return exec.Command(all[0], all[1:]...)
}

// log is what the daemon and its shims have logged from offset on.
func (d *daemon) log(offset int64) string {
	f, err := os.Open(d.logFile())
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

func (d *daemon) logSize() int64 {
	st, err := os.Stat(d.logFile())
	if err != nil {
		return 0
	}
	return st.Size()
}
