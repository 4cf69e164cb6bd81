package state

import (
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/microvm/microvm/runtime/cgroup"
)

// StatusPaused is not among the spec's statuses, but runc's and everybody's.
const StatusPaused specs.ContainerState = "paused"

// State is what state.json holds.
type State struct {
	OCIVersion  string            `json:"ociVersion"`
	ID          string            `json:"id"`
	Bundle      string            `json:"bundle"`
	Rootfs      string            `json:"rootfs"`
	Created     time.Time         `json:"created"`
	Annotations map[string]string `json:"annotations,omitempty"`
	// Status is the last one recorded. It holds only as long as the monitor
	// lives, see Current.
	Status specs.ContainerState `json:"status"`
	// PausedFrom is the status that a paused container has again when it is
	// resumed: created or running.
	PausedFrom specs.ContainerState `json:"pausedFrom,omitempty"`
	// Monitor ends with the container's exit code. Its pid is the container's
	// for the rest of the host.
	Monitor Process `json:"monitor"`
	// VM is the virtual machine's process, a child of the monitor. A container
	// in the machine of another has none.
	VM Process `json:"vm"`
	// In is the container in whose machine this one is, "" for one of its own.
	In string `json:"in,omitempty"`
	// Machine is the kind of machine in use.
	Machine string `json:"machine,omitempty"`
	// Cgroup is the host's cgroup of monitor and machine, nil without one.
	Cgroup *cgroup.Record `json:"cgroup,omitempty"`
	// ExitCode is the container's when Status is stopped.
	ExitCode int `json:"exitCode,omitempty"`
	// Memory is what the machine was started with, Grown what it has been given
	// since, in bytes.
	Memory uint64 `json:"memory,omitempty"`
	Grown  uint64 `json:"grown,omitempty"`
	// OOMKilled says that the container met its memory limit at its end.
	OOMKilled bool `json:"oomKilled,omitempty"`
	// Hooks are those that other commands will run.
	Hooks *specs.Hooks `json:"hooks,omitempty"`
}

// Current is the container's status now. A container whose monitor is gone has
// stopped, whatever was recorded last.
func (s *State) Current() specs.ContainerState {
	if s.Status == specs.StateStopped || !s.Monitor.Alive() {
		return specs.StateStopped
	}
	return s.Status
}

// Stale tells that the container was never completed and nobody works on it.
func (s *State) Stale() bool {
	return s.Status == specs.StateCreating && !s.Monitor.Alive()
}
