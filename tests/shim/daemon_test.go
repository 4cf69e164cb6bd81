package shim

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/microvm/microvm/tests/containerd"
)

// daemon is a containerd with storage of its own.
type daemon struct {
	containerd.Daemon
	name string // has the version
	// handlers are those of CRI's runtimes: with a container as the sandbox
	// of a pod and, in the 2.x line, with the shim's own sandbox.
	handlers []string
}

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
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.plain]
      runtime_type = "io.containerd.microvm.v1"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.plainsandboxed]
      runtime_type = "io.containerd.microvm.v1"
      sandboxer = "shim"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.sandboxed]
      runtime_type = "io.containerd.microvm.v1"
      sandboxer = "shim"
      disable_pause_image_pull = true
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.sandboxed.options]
        ConfigPath = "DIR/microvm.toml"
`

// networkList is the network of pods. It leaves nothing on the host when they
// are gone. Daemons know only of their own addresses: a suite that runs at the same
// time has another subnet.
const networkList = `{
	"cniVersion": "0.4.0", "name": "pods",
	"plugins": [{"type": "ptp", "ipam": {"type": "host-local", "ranges": [[{"subnet": "SUBNET"}]], "dataDir": "DIR/addresses"}}]
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
	version, err := containerd.Version(bin)
	if err != nil {
		return nil, err
	}
	// The daemon's own directory first: it has the shim for runc.
	path := bin + ":" + binDir + ":" + os.Getenv("PATH")
	d := &daemon{Daemon: containerd.Daemon{Bin: bin, Dir: dir, Path: path}, name: "containerd-" + version, handlers: []string{"microvm"}}
	if containerd.KnowsSandboxes(version) {
		d.handlers = append(d.handlers, sandboxed)
	}
	if err := d.Write(map[string]string{
		"config.toml": text, "cni/pods.conflist": networkList, "microvm.toml": fmt.Sprintf("machine = %q\nnetwork = \"user\"\npod_annotations = [\"io.microvm.mem*\"]\n", machine),
	}, "IMAGE", image, "SUBNET", fmt.Sprintf("10.78.%d.0/24", os.Getpid()%256)); err != nil {
		return nil, err
	}
	if said, err := exec.Command("mke2fs", "-q", "-t", "ext4", filepath.Join(dir, "scratch"), "24M").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("make scratch image: %w: %s", err, said)
	}
	return d, nil
}

// begin is the first start.
func (d *daemon) begin() error {
	err := d.Start()
	for _, ns := range []string{namespace, podNamespace} {
		if err == nil {
			err = d.importImage(ns)
		}
	}
	if err != nil {
		d.Stop()
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

func (d *daemon) state() string { return filepath.Join(d.Dir, "state") }

// ctrArgs is a call of the daemon's client.
func (d *daemon) ctrArgs(args ...string) []string {
	return append([]string{filepath.Join(d.Bin, "ctr"), "--address", d.Socket(), "--namespace", namespace}, args...)
}

func (d *daemon) ctr(args ...string) *exec.Cmd {
	all := d.ctrArgs(args...)
	return exec.Command(all[0], all[1:]...)
}

func (d *daemon) logSize() int64 {
	st, err := os.Stat(d.LogFile())
	if err != nil {
		return 0
	}
	return st.Size()
}
