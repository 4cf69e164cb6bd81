package api

import (
	"encoding/json"
	"fmt"
	"path"

	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// Type URLs that containerd gives to parts of the runtime spec in JSON.
const (
	processType   = "types.containerd.io/opencontainers/runtime-spec/1/Process"
	resourcesType = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources"
)

// NewContainerOptions packs the guest's runtime spec for CreateTaskRequest.
func NewContainerOptions(spec *specs.Spec) (*anypb.Any, error) {
	p, err := json.Marshal(spec)
	if err != nil {
		return nil, fmt.Errorf("encode runtime spec: %w", err)
	}
	a, err := anypb.New(&ContainerOptions{Spec: p})
	if err != nil {
		return nil, fmt.Errorf("encode container options: %w", err)
	}
	return a, nil
}

// ContainerSpec is the inverse of [NewContainerOptions].
func ContainerSpec(a *anypb.Any) (*specs.Spec, error) {
	var o ContainerOptions
	if err := a.UnmarshalTo(&o); err != nil {
		return nil, fmt.Errorf("decode container options: %w", err)
	}
	var spec specs.Spec
	if err := json.Unmarshal(o.GetSpec(), &spec); err != nil {
		return nil, fmt.Errorf("decode runtime spec: %w", err)
	}
	return &spec, nil
}

// ExecProcess is a process to run in a container: containerd's, and where.
type ExecProcess struct {
	specs.Process
	// Cgroup is that of the process, as a path from the container's own; "/" is
	// the latter, and so is "", unless the kernel wants it free of processes:
	// then that of the container's first process.
	Cgroup string `json:"microvmCgroup,omitempty"`
}

// NewProcessSpec packs a process for ExecProcessRequest.
func NewProcessSpec(p *ExecProcess) (*anypb.Any, error) {
	return pack(processType, p)
}

// ProcessSpec is the inverse of [NewProcessSpec]; it also takes containerd's.
func ProcessSpec(a *anypb.Any) (*ExecProcess, error) {
	return unpack[ExecProcess](processType, a)
}

// NewResources packs limits for UpdateTaskRequest.
func NewResources(r *specs.LinuxResources) (*anypb.Any, error) {
	return pack(resourcesType, r)
}

// Resources is the inverse of [NewResources].
func Resources(a *anypb.Any) (*specs.LinuxResources, error) {
	return unpack[specs.LinuxResources](resourcesType, a)
}

func pack(kind string, part any) (*anypb.Any, error) {
	v, err := json.Marshal(part)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", path.Base(kind), err)
	}
	return &anypb.Any{TypeUrl: kind, Value: v}, nil
}

func unpack[T any](kind string, a *anypb.Any) (*T, error) {
	if got := a.GetTypeUrl(); got != kind {
		return nil, fmt.Errorf("decode %s: type is %q, not %q", path.Base(kind), got, kind)
	}
	part := new(T)
	if err := json.Unmarshal(a.GetValue(), part); err != nil {
		return nil, fmt.Errorf("decode %s: %w", path.Base(kind), err)
	}
	return part, nil
}

// Unpack decodes what a guest has packed, whatever type it claims to be.
func Unpack(a *anypb.Any, m proto.Message) error {
	if err := proto.Unmarshal(a.GetValue(), m); err != nil {
		return fmt.Errorf("decode %s: %w", path.Base(a.GetTypeUrl()), err)
	}
	return nil
}
