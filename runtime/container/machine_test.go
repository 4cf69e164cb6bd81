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

// TestPublicationsInPod are the sandbox's: its containers, which have the annotation,
// too, are in its network.
func TestPublicationsInPod(t *testing.T) {
	joined := []specs.LinuxNamespace{{Type: specs.NetworkNamespace, Path: "/proc/1/ns/net"}}
	for kind, refused := range map[string]bool{"sandbox": true, "container": false} {
		b := &bundle.Bundle{Spec: &specs.Spec{Linux: &specs.Linux{Namespaces: joined}, Annotations: map[string]string{
			"io.kubernetes.cri.sandbox-id": "pod", "io.kubernetes.cri.container-type": kind,
		}}}
		_, err := userNetwork(b, config.Config{Network: config.NetworkUser, Publish: "8080:80"}, config.Artifacts{})
		if (err != nil) != refused {
			t.Errorf("%s: %v", kind, err)
		}
	}
}
