package guest

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/microvm/microvm/agent/api"
)

// Timeline records when the agent reached each stage of its start.
type Timeline struct {
	mu     sync.Mutex
	stages []*api.Stage
}

// Reach records that the stage name is reached now.
func (t *Timeline) Reach(name string) { t.ReachedAt(name, Boottime()) }

// ReachedAt records that the stage name was reached when Boottime was at.
func (t *Timeline) ReachedAt(name string, at time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stages = append(t.stages, &api.Stage{Name: name, BoottimeNanos: at.Nanoseconds()})
}

func (t *Timeline) all() []*api.Stage {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]*api.Stage(nil), t.stages...)
}

// Machine answers the machine service.
type Machine struct {
	Timeline *Timeline
	// List describes the processes of a container, or of the whole guest if
	// id is empty. Its errors are status errors.
	List func(id string) ([]*api.Process, error)
	// SetNetwork answers the call Network.
	SetNetwork func(context.Context, *api.NetworkRequest) (*api.NetworkResponse, error)
	// Kills waits as the call OutOfMemory says. Its errors are status errors.
	Kills func(ctx context.Context, id string, known uint64) (uint64, error)
	// Log has the warnings for the host.
	Log *Warnings
}

var _ api.MachineService = (*Machine)(nil)

// Hello implements [api.MachineService].
func (m *Machine) Hello(_ context.Context, req *api.HelloRequest) (*api.HelloResponse, error) {
	if req.GetVersion() != api.Version {
		return nil, status.Errorf(codes.FailedPrecondition,
			"the agent in the guest image speaks protocol %s, the host %s: build or install both from one version",
			api.Version, req.GetVersion())
	}
	if err := learn(req); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &api.HelloResponse{
		Version:       api.Version,
		KernelRelease: kernelRelease(),
		Stages:        m.Timeline.all(),
		BoottimeNanos: Boottime().Nanoseconds(),
	}, nil
}

// learn takes over what only the host knows.
func learn(req *api.HelloRequest) error {
	if t := req.GetUnixNanos(); t != 0 {
		if err := setClock(time.Unix(0, t)); err != nil {
			return err
		}
	}
	if seed := req.GetEntropy(); len(seed) > 0 {
		if err := addEntropy(seed); err != nil {
			return err
		}
	}
	if name := req.GetHostname(); name != "" {
		if err := unix.Sethostname([]byte(name)); err != nil {
			return fmt.Errorf("set host name %q: %w", name, err)
		}
	}
	return setSysctls(req.GetSysctls())
}

// setSysctls sets those of the IPC namespace that the guest starts with.
func setSysctls(all map[string]string) error {
	for name, value := range all {
		if !api.SysctlOfIPC(name) {
			return fmt.Errorf("set sysctl %q: it is not one of IPC", name)
		}
		if err := os.WriteFile("/proc/sys/"+strings.ReplaceAll(name, ".", "/"), []byte(value), 0o644); err != nil {
			return fmt.Errorf("set sysctl %s to %q: %w", name, value, err)
		}
	}
	return nil
}

func kernelRelease() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

// Processes implements [api.MachineService].
func (m *Machine) Processes(_ context.Context, req *api.ProcessesRequest) (*api.ProcessesResponse, error) {
	list, err := m.List(req.GetId())
	if err != nil {
		return nil, err
	}
	return &api.ProcessesResponse{Processes: list}, nil
}

// Network implements [api.MachineService].
func (m *Machine) Network(ctx context.Context, req *api.NetworkRequest) (*api.NetworkResponse, error) {
	return m.SetNetwork(ctx, req)
}

// Warnings implements [api.MachineService].
func (m *Machine) Warnings(context.Context, *api.WarningsRequest) (*api.WarningsResponse, error) {
	return &api.WarningsResponse{Lines: m.Log.Take()}, nil
}

// OutOfMemory implements [api.MachineService].
func (m *Machine) OutOfMemory(ctx context.Context, req *api.OutOfMemoryRequest) (*api.OutOfMemoryResponse, error) {
	kills, err := m.Kills(ctx, req.GetId(), req.GetKnown())
	if err != nil {
		return nil, err
	}
	return &api.OutOfMemoryResponse{Kills: kills}, nil
}

// Shutdown implements [api.MachineService]. It ends the machine, and returns
// only if that is impossible.
func (m *Machine) Shutdown(context.Context, *api.ShutdownRequest) (*api.ShutdownResponse, error) {
	Quiesce()
	return nil, status.Error(codes.Internal, PowerOff().Error())
}
