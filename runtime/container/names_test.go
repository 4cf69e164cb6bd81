package container

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/agent/api"
	"github.com/microvm/microvm/runtime/bundle"
)

func TestProvideNames(t *testing.T) {
	for what, c := range map[string]struct {
		make   func(etc string) error
		mounts []specs.Mount
		want   bool
	}{
		"missing":           {make: func(string) error { return nil }, want: true},
		"missing directory": {make: os.Remove, want: true},
		"empty":             {make: func(etc string) error { return os.WriteFile(etc+"/resolv.conf", nil, 0o644) }, want: true},
		"no server":         {make: func(etc string) error { return os.WriteFile(etc+"/resolv.conf", []byte("# none\nsearch a\n"), 0o644) }, want: true},
		"dangling link":     {make: func(etc string) error { return os.Symlink("../run/resolve/stub.conf", etc+"/resolv.conf") }, want: true},
		"server":            {make: func(etc string) error { return os.WriteFile(etc+"/resolv.conf", []byte("nameserver 1.1.1.1\n"), 0o644) }},
		"fifo":              {make: func(etc string) error { return unix.Mkfifo(etc+"/resolv.conf", 0o644) }},
		"mounted":           {make: func(string) error { return nil }, mounts: []specs.Mount{{Destination: "/etc/resolv.conf/"}}},
		"directory mounted": {make: func(string) error { return nil }, mounts: []specs.Mount{{Destination: "/etc"}}},
	} {
		root := t.TempDir()
		etc := filepath.Join(root, "etc")
		if err := errors.Join(os.Mkdir(etc, 0o755), c.make(etc)); err != nil {
			t.Fatal(err)
		}
		plan := &bundle.Plan{Guest: &specs.Spec{Mounts: c.mounts}}
		if err := provideNames(root, plan); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		last := len(plan.Guest.Mounts) - 1
		if got := last >= 0 && plan.Guest.Mounts[last].Source == api.ResolvConf; got != c.want {
			t.Errorf("%s: %+v", what, plan.Guest.Mounts)
		}
	}
}
