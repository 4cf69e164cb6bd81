package cri

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// start-up and end of a daemon.
const grace = time.Minute

// configuration keeps all below one directory, and pulls every image from the
// registry.
const configuration = `version = 2
root = "DIR/root"
state = "DIR/state"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
  address = "DIR/sock"
[plugins."io.containerd.nri.v1.nri"]
  disable = true
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "IMAGE"
  restrict_oom_score_adj = true
  enable_unprivileged_ports = true
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "DIR/certs.d"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "DIR/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "HANDLER"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.microvm]
      runtime_type = "io.containerd.microvm.v1"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.microvm.options]
        ConfigPath = "DIR/microvm.toml"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.sandboxed]
      runtime_type = "io.containerd.microvm.v1"
      sandboxer = "shim"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.sandboxed.options]
        ConfigPath = "DIR/microvm.toml"
`

// hosts sends containerd to the registry.
const hosts = `server = "REGISTRY"
[host."REGISTRY"]
  capabilities = ["pull", "resolve"]
`

// networkList is the network of pods. It leaves no interface when they are gone.
const networkList = `{
	"cniVersion": "0.4.0", "name": "critest",
	"plugins": [
		{"type": "ptp", "ipMasq": true, "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.79.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}], "dataDir": "DIR/addresses"}},
		{"type": "portmap", "capabilities": {"portMappings": true}}
	]
}`

// daemon is a containerd with storage of its own.
type daemon struct {
	dir     string
	process *exec.Cmd
}

// startDaemon runs the containerd of bin with storage in dir and that handler as
// its default, until it answers. The shims are looked for in path.
func startDaemon(bin, dir, path, handler, machine, registry string) (*daemon, error) {
	fill := strings.NewReplacer("DIR", dir, "IMAGE", sandboxImage, "HANDLER", handler, "REGISTRY", registry)
	for name, text := range map[string]string{
		"config.toml": configuration, "cni/critest.conflist": networkList, "certs.d/_default/hosts.toml": hosts,
		"microvm.toml": fmt.Sprintf("machine = %q\n", machine),
	} {
		name = filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(fill.Replace(text)), 0o600)); err != nil {
			return nil, err
		}
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	d := &daemon{dir: dir, process: exec.Command(filepath.Join(bin, "containerd"), "--config", filepath.Join(dir, "config.toml"))}
	d.process.Env = append(os.Environ(), "PATH="+path)
	d.process.Stdout, d.process.Stderr = log, log
	if err := d.process.Start(); err != nil {
		return nil, err
	}
	for end := time.Now().Add(grace); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if exec.Command(filepath.Join(bin, "ctr"), "--address", d.socket(), "version").Run() == nil {
			return d, nil
		}
	}
	d.stop()
	text, _ := os.ReadFile(log.Name())
	return nil, fmt.Errorf("%s/containerd does not answer: %s", bin, text)
}

func (d *daemon) socket() string { return filepath.Join(d.dir, "sock") }

func (d *daemon) stop() {
	_ = d.process.Process.Signal(os.Interrupt)
	hang := time.AfterFunc(grace, func() { _ = d.process.Process.Kill() })
	defer hang.Stop()
	_ = d.process.Wait() // its end is all that matters
}

// version is containerd's.
func version(t *testing.T, bin string) string {
	t.Helper()
	out, err := exec.Command(filepath.Join(bin, "containerd"), "--version").Output()
	f := strings.Fields(string(out))
	if err != nil || len(f) < 3 {
		t.Fatalf("find containerd in %s: %v", bin, err)
	}
	return strings.FieldsFunc(strings.TrimPrefix(f[2], "v"), func(r rune) bool { return r == '~' || r == '+' })[0]
}

// knowsSandboxes tells whether shims can have sandboxes of their own.
func knowsSandboxes(t *testing.T, bin string) bool {
	return strings.HasPrefix(version(t, bin), "2.")
}
