package task

import (
	"context"
	"strings"

	runtimeoptions "github.com/containerd/containerd/api/types/runtimeoptions/v1"
	"github.com/containerd/log"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/microvm/microvm/agent/api"
	"github.com/microvm/microvm/runtime/config"
)

// optionsType is the end of the type of options for runtimes that containerd
// does not know; what is before it differs between versions.
const optionsType = "runtimeoptions.v1.Options"

// IsOptions tells whether options are for runtimes that containerd does not know.
func IsOptions(options *anypb.Any) bool { return strings.HasSuffix(options.GetTypeUrl(), optionsType) }

// Configure reads the configuration that a runtime's options name (ConfigPath
// in containerd's configuration), or that of the host.
func Configure(ctx context.Context, options *anypb.Any) (config.Config, error) {
	var o runtimeoptions.Options
	switch kind := options.GetTypeUrl(); {
	case kind == "":
	case IsOptions(options):
		if err := api.Unpack(options, &o); err != nil {
			return config.Config{}, err
		}
	default:
		log.G(ctx).Warnf("options of type %s are for another runtime, and left out", kind)
	}
	return config.Load(o.GetConfigPath())
}
