package bundle

import (
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestRemount(t *testing.T) {
	p := &Plan{Guest: &specs.Spec{Root: &specs.Root{Path: guestPath("root")}, Mounts: []specs.Mount{
		{Source: guestPath("m1")}, {Source: guestPath("m10")}, {Source: "overlay", Options: []string{"lowerdir=" + guestPath("m2")}}, {Source: guestPath("m2")},
	}}}
	for name, want := range map[string]bool{"m1": true, "m10": true, "m2": false, "root": false, "m3": false} {
		if got := p.Mounts(name); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
	p.Remount("m1", "other")
	if p.Guest.Mounts[0].Source != guestPath("other") || p.Guest.Mounts[1].Source != guestPath("m10") {
		t.Errorf("%v", p.Guest.Mounts)
	}
}
