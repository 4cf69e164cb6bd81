package process

import (
	"slices"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestOldProfilesLetContainersStart(t *testing.T) {
	old := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{
		{Names: []string{"read"}, Action: specs.ActAllow}, {Names: []string{"openat2"}, Action: specs.ActErrno},
	}}
	got := withInitCalls(old)
	added := got.Syscalls[len(got.Syscalls)-1]
	if added.Action != specs.ActAllow || !slices.Contains(added.Names, "statx") || slices.Contains(added.Names, "openat2") {
		t.Errorf("%+v", added)
	}
	if len(old.Syscalls) != 2 {
		t.Error("the caller's profile was changed")
	}
	for _, p := range []*specs.LinuxSeccomp{nil, {DefaultAction: specs.ActAllow}} {
		if withInitCalls(p) != p {
			t.Errorf("%+v was changed", p)
		}
	}
}
