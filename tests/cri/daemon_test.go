package cri

import (
	"fmt"
	"os"

	"github.com/microvm/microvm/tests/containerd"
)

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

// networkList is the network of pods. It leaves no interface when they are gone. A
// daemon knows only of its own addresses: what runs at the same time has another
// subnet.
const networkList = `{
	"cniVersion": "0.4.0", "name": "critest",
	"plugins": [
		{"type": "ptp", "ipMasq": true, "ipam": {"type": "host-local", "ranges": [[{"subnet": "SUBNET"}]], "routes": [{"dst": "0.0.0.0/0"}], "dataDir": "DIR/addresses"}},
		{"type": "portmap", "capabilities": {"portMappings": true}}
	]
}`

// newDaemon makes the containerd of bin with storage in dir and that handler as
// its default, one that finds shims in path.
func newDaemon(bin, dir, path, handler, machine, registry string) (*containerd.Daemon, error) {
	d := &containerd.Daemon{Bin: bin, Dir: dir, Path: path}
	return d, d.Write(map[string]string{
		"config.toml": configuration, "cni/critest.conflist": networkList, "certs.d/_default/hosts.toml": hosts,
		"microvm.toml": fmt.Sprintf("machine = %q\n", machine),
	}, "IMAGE", sandboxImage, "SUBNET", fmt.Sprintf("10.79.%d.0/24", os.Getpid()%256), "HANDLER", handler, "REGISTRY", registry)
}
