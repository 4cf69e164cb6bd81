package api

import (
	"reflect"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/types/known/anypb"
)

func TestPayloads(t *testing.T) {
	p := &specs.Process{Args: []string{"a", "b"}, Cwd: "/", Terminal: true}
	x := &ExecProcess{Process: *p, Cgroup: "/below"}
	a, err := NewProcessSpec(x)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ProcessSpec(a); err != nil || !reflect.DeepEqual(got, x) {
		t.Errorf("process: got %v, %v", got, err)
	}
	spec := &specs.Spec{Version: "1.3.0", Process: p, Root: &specs.Root{Path: ExportsDir + "/root"}}
	a, err = NewContainerOptions(spec)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ContainerSpec(a); err != nil || !reflect.DeepEqual(got, spec) {
		t.Errorf("spec: got %v, %v", got, err)
	}
}

func TestPayloadsRefused(t *testing.T) {
	for _, a := range []*anypb.Any{nil, {}, {TypeUrl: processType}, {TypeUrl: processType, Value: []byte("[")}} {
		if p, err := ProcessSpec(a); err == nil {
			t.Errorf("process from %v: got %v", a, p)
		}
		if s, err := ContainerSpec(a); err == nil {
			t.Errorf("spec from %v: got %v", a, s)
		}
	}
}
