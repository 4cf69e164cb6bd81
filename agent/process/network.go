package process

import (
	"slices"

	"github.com/containerd/cgroups/v3/cgroup2/stats"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Network is the network that all containers of the guest share.
type Network interface {
	// Path is that of its namespace, empty for the agent's.
	Path() string
	// Adopt moves it into the network namespace of a process.
	Adopt(pid int) error
	// Counters are those of its interfaces.
	Counters() ([]*stats.NetworkStat, error)
}

// joinNetwork has a container join the network, and says whether it is to
// follow the container instead: whoever has a user namespace needs a network
// namespace that belongs to it. One by path has the network already.
func (e *Engine) joinNetwork(spec *specs.Spec) (adopt bool) {
	if e.Network == nil || e.Network.Path() == "" || spec.Linux == nil {
		return false
	}
	has := func(kind specs.LinuxNamespaceType) int {
		return slices.IndexFunc(spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == kind })
	}
	i := has(specs.NetworkNamespace)
	if i >= 0 && spec.Linux.Namespaces[i].Path != "" {
		return false
	}
	if i >= 0 && has(specs.UserNamespace) >= 0 {
		return true
	}
	if i < 0 {
		spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.NetworkNamespace})
		i = len(spec.Linux.Namespaces) - 1
	}
	spec.Linux.Namespaces[i].Path = e.Network.Path()
	return false
}

// adoptNetwork moves the network to c's process.
func (e *Engine) adoptNetwork(c *container) error {
	state, err := c.lib.State()
	if err != nil {
		return err
	}
	return e.Network.Adopt(state.InitProcessPid)
}
