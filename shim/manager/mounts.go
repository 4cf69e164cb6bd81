package manager

import (
	"strings"

	"github.com/microvm/microvm/runtime/bundle"
)

// allowMounts is how daemons of version 2.2 and 2.3 are told what mounts they are
// to leave to the guest; newer ones take types.MountCapabilities.
const allowMounts = "containerd.io/runtime-allow-mounts"

func allowedMounts() string {
	all := append([]string{}, bundle.RootTypes...)
	for _, t := range bundle.RootTransforms {
		all = append(all, t+"/*")
	}
	return strings.Join(all, ",")
}
