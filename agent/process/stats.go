package process

import (
	"fmt"

	"github.com/containerd/cgroups/v3/cgroup2"
	"github.com/containerd/cgroups/v3/cgroup2/stats"
)

// Stats reads what a container has used and how often it met its limits, as
// containerd reports it for cgroup v2.
func (e *Engine) Stats(id string) (*stats.Metrics, error) {
	if _, err := e.container(id); err != nil {
		return nil, err
	}
	m, err := cgroup2.Load("/" + id)
	if err != nil {
		return nil, fmt.Errorf("open cgroup of container %s: %w", id, err)
	}
	s, err := m.Stat()
	if err != nil {
		return nil, fmt.Errorf("read statistics of container %s: %w", id, err)
	}
	if e.Network == nil {
		return s, nil
	}
	if s.Network, err = e.Network.Counters(); err != nil {
		return nil, fmt.Errorf("read statistics of container %s: %w", id, err)
	}
	return s, nil
}
