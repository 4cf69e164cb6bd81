package sandbox

import (
	sandboxapi "github.com/containerd/containerd/api/runtime/sandbox/v1"
	"github.com/containerd/containerd/v2/plugins"
	"github.com/containerd/plugin"
	"github.com/containerd/plugin/registry"
	"github.com/containerd/ttrpc"

	"github.com/microvm/microvm/shim/task"
)

// Register makes the service part of the shim that runs in this process, after
// the task service.
func Register() {
	registry.Register(&plugin.Registration{
		Type:     plugins.TTRPCPlugin,
		ID:       "sandbox",
		Requires: []plugin.Type{task.PluginType},
		InitFn: func(ic *plugin.InitContext) (any, error) {
			tasks, err := ic.GetByID(task.PluginType, task.PluginID)
			if err != nil {
				return nil, err
			}
			return &Service{tasks: tasks.(*task.Service)}, nil
		},
	})
}

// RegisterTTRPC makes server answer the service.
func (s *Service) RegisterTTRPC(server *ttrpc.Server) error {
	sandboxapi.RegisterTTRPCSandboxService(server, s)
	return nil
}
