package node

import (
	"path/filepath"

	"github.com/microvm/microvm/tests/busybox"
)

// makeImages makes the images that pods are of, out of the host's busybox.
func (n *Node) makeImages() error {
	root := n.path("images", "rootfs")
	if err := busybox.Rootfs(root); err != nil {
		return err
	}
	for file, name := range imageFiles {
		if err := busybox.Image(n.path("images", file), name, root); err != nil {
			return err
		}
	}
	return nil
}

var imageFiles = map[string]string{"pause.tar": SandboxImage, "busybox.tar": Image}

// importImages gives them to containerd: there is no registry.
func (n *Node) importImages() error {
	for file := range imageFiles {
		if _, err := n.output("", filepath.Join(n.Programs.Containerd, "ctr"), "--address", n.Socket(),
			"--namespace", "k8s.io", "images", "import", n.path("images", file)); err != nil {
			return err
		}
	}
	return nil
}
