package task

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	runtimeoptions "github.com/containerd/containerd/api/types/runtimeoptions/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

func TestConfigure(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(file, []byte("memory = 321\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	options := func(kind, path string) *anypb.Any {
		value, err := proto.Marshal(&runtimeoptions.Options{ConfigPath: path})
		if err != nil {
			t.Fatal(err)
		}
		return &anypb.Any{TypeUrl: kind, Value: value}
	}
	for _, kind := range []string{"runtimeoptions.v1.Options", "cri.runtimeoptions.v1.Options"} {
		if c, err := Configure(t.Context(), options(kind, file)); err != nil || c.Memory != 321 {
			t.Errorf("%s: %+v, %v", kind, c, err)
		}
	}
	if _, err := Configure(t.Context(), options("runtimeoptions.v1.Options", file+"x")); err == nil || !strings.Contains(err.Error(), file+"x") {
		t.Errorf("no such file: %v", err)
	}
	if _, err := Configure(t.Context(), &anypb.Any{TypeUrl: "runtimeoptions.v1.Options", Value: []byte{0xff}}); err == nil {
		t.Error("broken options")
	}
	// Options of runc, and none.
	for _, o := range []*anypb.Any{options("containerd.runc.v1.Options", file), nil} {
		if c, err := Configure(t.Context(), o); err != nil || c.Memory == 321 {
			t.Errorf("%v: %+v, %v", o, c, err)
		}
	}
}
