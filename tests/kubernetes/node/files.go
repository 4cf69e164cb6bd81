package node

import (
	"embed"
	"errors"
	"os"
	"path/filepath"
	"strings"
)

//go:embed files
var templates embed.FS

// writeFiles writes the configuration of the node's programs, and a kubeconfig
// for each that talks to the API.
func (n *Node) writeFiles() error {
	all := map[string]string{
		"kubelet.yaml": "kubelet.yaml", "kube-proxy.yaml": "kube-proxy.yaml",
		"containerd/config.toml": "containerd.toml", "cni/10-microvm.conflist": "network.conflist",
	}
	for file, template := range all {
		if err := n.fill(file, template, ""); err != nil {
			return err
		}
	}
	for _, user := range []string{"admin", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet"} {
		if err := n.fill(user+".kubeconfig", "kubeconfig.yaml", user); err != nil {
			return err
		}
	}
	return nil
}

// fill writes a file out of one of the templates.
func (n *Node) fill(file, template, user string) error {
	text, err := templates.ReadFile("files/" + template)
	if err != nil {
		return err
	}
	filled := strings.NewReplacer(
		"DIR", n.Dir, "ADDRESS", n.Address(), "SERVER", controlAddress, "NAME", Name, "USER", user,
		"PODS", pods, "SIX", pods6, "BRIDGE", bridge, "SANDBOX", SandboxImage, "PATIENCE", patience.String(),
	).Replace(string(text))
	file = n.path(file)
	return errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(filled), 0o600))
}
