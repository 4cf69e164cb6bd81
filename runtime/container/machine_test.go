package container

import (
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/microvm/microvm/runtime/bundle"
	"github.com/microvm/microvm/runtime/config"
)

// TestPodOfTheHostsNetworkIsRefused unless it is said that a user-mode network
// will do.
func TestPodOfTheHostsNetworkIsRefused(t *testing.T) {
	for kind, refused := range map[string]map[string]bool{
		"sandbox":   {"": true, config.NetworkAuto: true, config.NetworkUser: false, config.NetworkNone: false},
		"container": {"": false, config.NetworkUser: false},
	} {
		for setting, want := range refused {
			b := &bundle.Bundle{Spec: &specs.Spec{Linux: &specs.Linux{}, Annotations: map[string]string{
				"io.kubernetes.cri.sandbox-id": "pod", "io.kubernetes.cri.container-type": kind,
			}}}
			_, err := userNetwork(b, config.Config{Network: setting}, config.Artifacts{})
			if got := err != nil && strings.Contains(err.Error(), "hostNetwork"); got != want {
				t.Errorf("%s with %q: %v", kind, setting, err)
			}
		}
	}
}
