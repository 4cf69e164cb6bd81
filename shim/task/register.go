// Package task is containerd's task service for tasks in machines of their own.
//
// A shim serves one machine: that of its only container, or of its pod. Calls
// about processes go on to the agent, whose service is the same; the shim adds
// what is the host's: mounts, the VM process, fifos and events.
package task

import (
	"github.com/containerd/containerd/v2/pkg/shim"
	"github.com/containerd/containerd/v2/pkg/shutdown"
	"github.com/containerd/containerd/v2/plugins"
	"github.com/containerd/plugin"
	"github.com/containerd/plugin/registry"
	"github.com/containerd/ttrpc"

	"github.com/microvm/microvm/agent/api"
	"github.com/microvm/microvm/shim/events"
)

// The service among the shim's plugins. Its type is another than that of those
// that build on it: the plugins of one type cannot require each other.
const (
	PluginType = plugins.ServicePlugin
	PluginID   = "task"
)

// serviceV2 is the service's name to daemons before 2.0.
const serviceV2 = "containerd.task.v2.Task"

// Register makes the service part of the shim that runs in this process.
func Register() {
	registry.Register(&plugin.Registration{
		Type:     PluginType,
		ID:       PluginID,
		Requires: []plugin.Type{plugins.EventPlugin, plugins.InternalPlugin},
		InitFn:   initialize,
	})
}

func initialize(ic *plugin.InitContext) (any, error) {
	publisher, err := ic.GetByID(plugins.EventPlugin, "publisher")
	if err != nil {
		return nil, err
	}
	stop, err := ic.GetByID(plugins.InternalPlugin, "shutdown")
	if err != nil {
		return nil, err
	}
	queue, err := events.New(ic.Context, publisher.(shim.Publisher))
	if err != nil {
		return nil, err
	}
	return newService(ic.Context, queue, stop.(shutdown.Service))
}

// RegisterTTRPC makes server answer both versions of the service, whose
// messages are the same.
func (s *Service) RegisterTTRPC(server *ttrpc.Server) error {
	api.RegisterTaskService(server, s)
	api.RegisterTaskServiceAs(server, serviceV2, s)
	return nil
}
