package sandbox

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"runtime"
	"sync"
	"time"

	sandboxapi "github.com/containerd/containerd/api/runtime/sandbox/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/microvm/microvm/shim/task"
)

// States of a sandbox, in Kubernetes' words.
const (
	stateReady    = "SANDBOX_READY"
	stateNotReady = "SANDBOX_NOTREADY"
)

// stopGrace is how long a guest may take to write everything back when
// containerd does not say.
const stopGrace = 45 * time.Second

// Service is the sandbox service of one shim, which has one sandbox.
type Service struct {
	tasks *task.Service

	// making is held while the sandbox comes or goes.
	making sync.Mutex

	mu      sync.Mutex
	id      string // "" before CreateSandbox
	bundle  string
	sandbox *task.Sandbox // nil before StartSandbox
	created time.Time
}

var _ sandboxapi.TTRPCSandboxService = (*Service)(nil)

// find returns the sandbox id, nil if it has not been started.
func (s *Service) find(id string) (*task.Sandbox, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.id == "" || s.id != id {
		return nil, status.Errorf(codes.NotFound, "sandbox %s does not exist", id)
	}
	return s.sandbox, nil
}

// started is find for what needs a machine.
func (s *Service) started(id string) (*task.Sandbox, error) {
	b, err := s.find(id)
	if err == nil && b == nil {
		err = status.Errorf(codes.FailedPrecondition, "sandbox %s is not started", id)
	}
	return b, err
}

// CreateSandbox implements [sandboxapi.TTRPCSandboxService]. It reads what is
// wanted; the machine comes with the start.
func (s *Service) CreateSandbox(ctx context.Context, r *sandboxapi.CreateSandboxRequest) (*sandboxapi.CreateSandboxResponse, error) {
	s.making.Lock()
	defer s.making.Unlock()
	if s.id != "" {
		return nil, status.Errorf(codes.AlreadyExists, "sandbox %s already exists", s.id)
	}
	if r.GetSandboxID() == "" || r.GetBundlePath() == "" {
		return nil, status.Error(codes.InvalidArgument, "a sandbox needs an id and a bundle")
	}
	if len(r.GetRootfs()) > 0 {
		return nil, status.Error(codes.InvalidArgument, "a sandbox is a machine and has no root file system")
	}
	config, err := podConfig(r.GetOptions())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	annotations, err := countingAnnotations(ctx, r, config)
	if err != nil {
		return nil, status.Error(codes.Unknown, err.Error())
	}
	wanted := request{id: r.GetSandboxID(), netns: r.GetNetnsPath(), config: config, annotations: annotations}
	if err := writeBundle(r.GetBundlePath(), wanted); err != nil {
		return nil, status.Error(codes.Unknown, err.Error())
	}
	s.tasks.Reserve()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.id, s.bundle = wanted.id, r.GetBundlePath()
	return &sandboxapi.CreateSandboxResponse{}, nil
}

// countingAnnotations are the client's and those of the pod's own that the
// administrator lets through.
func countingAnnotations(ctx context.Context, r *sandboxapi.CreateSandboxRequest, pod *PodSandboxConfig) (map[string]string, error) {
	options, err := loadOptions(r.GetBundlePath())
	if err != nil {
		return nil, err
	}
	c, err := task.Configure(ctx, options)
	if err != nil {
		return nil, err
	}
	all := c.OfPod(pod.GetAnnotations())
	maps.Copy(all, r.GetAnnotations())
	return all, nil
}

// StartSandbox implements [sandboxapi.TTRPCSandboxService]. It boots the machine.
func (s *Service) StartSandbox(ctx context.Context, r *sandboxapi.StartSandboxRequest) (*sandboxapi.StartSandboxResponse, error) {
	s.making.Lock()
	defer s.making.Unlock()
	switch b, err := s.find(r.GetSandboxID()); {
	case err != nil && s.id == "":
		return nil, status.Errorf(codes.FailedPrecondition, "sandbox %s is not created", r.GetSandboxID())
	case err != nil:
		return nil, err
	case b != nil:
		return nil, status.Errorf(codes.FailedPrecondition, "sandbox %s was started already", r.GetSandboxID())
	}
	options, err := loadOptions(s.bundle)
	if err != nil {
		return nil, status.Error(codes.Unknown, err.Error())
	}
	b, err := s.tasks.StartSandbox(ctx, s.id, s.bundle, options)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sandbox, s.created = b, time.Now()
	return &sandboxapi.StartSandboxResponse{Pid: b.PID(), CreatedAt: timestamppb.New(s.created)}, nil
}

// Platform implements [sandboxapi.TTRPCSandboxService]. The guest's is the
// host's.
func (s *Service) Platform(_ context.Context, r *sandboxapi.PlatformRequest) (*sandboxapi.PlatformResponse, error) {
	if _, err := s.find(r.GetSandboxID()); err != nil {
		return nil, err
	}
	return &sandboxapi.PlatformResponse{Platform: &types.Platform{OS: runtime.GOOS, Architecture: runtime.GOARCH}}, nil
}

// StopSandbox implements [sandboxapi.TTRPCSandboxService]. One that has not been
// started, or has ended, is stopped.
func (s *Service) StopSandbox(ctx context.Context, r *sandboxapi.StopSandboxRequest) (*sandboxapi.StopSandboxResponse, error) {
	b, err := s.find(r.GetSandboxID())
	if err != nil {
		return nil, err
	}
	if b != nil {
		grace := time.Duration(r.GetTimeoutSecs()) * time.Second
		if grace == 0 {
			grace = stopGrace
		}
		ctx, cancel := context.WithTimeout(ctx, grace)
		defer cancel()
		if err := b.Stop(ctx); err != nil {
			return nil, err
		}
	}
	return &sandboxapi.StopSandboxResponse{}, nil
}

// WaitSandbox implements [sandboxapi.TTRPCSandboxService].
func (s *Service) WaitSandbox(ctx context.Context, r *sandboxapi.WaitSandboxRequest) (*sandboxapi.WaitSandboxResponse, error) {
	b, err := s.started(r.GetSandboxID())
	if err != nil {
		return nil, err
	}
	select {
	case <-b.Ended():
		code, at := b.End()
		return &sandboxapi.WaitSandboxResponse{ExitStatus: code, ExitedAt: timestamppb.New(at)}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// SandboxStatus implements [sandboxapi.TTRPCSandboxService].
func (s *Service) SandboxStatus(_ context.Context, r *sandboxapi.SandboxStatusRequest) (*sandboxapi.SandboxStatusResponse, error) {
	b, err := s.find(r.GetSandboxID())
	if err != nil {
		return nil, err
	}
	a := &sandboxapi.SandboxStatusResponse{SandboxID: r.GetSandboxID(), State: stateNotReady}
	if b != nil {
		s.mu.Lock()
		a.Pid, a.CreatedAt = b.PID(), timestamppb.New(s.created)
		s.mu.Unlock()
		describe(a, b)
	}
	if r.GetVerbose() {
		a.Info, err = s.info(a)
	}
	return a, err
}

func describe(a *sandboxapi.SandboxStatusResponse, b *task.Sandbox) {
	select {
	case <-b.Ended():
		_, at := b.End()
		a.ExitedAt = timestamppb.New(at)
	default:
		if !b.Over() {
			a.State = stateReady
		}
	}
}

// info is for people, in the form that CRI gives it on.
func (s *Service) info(a *sandboxapi.SandboxStatusResponse) (map[string]string, error) {
	status := "deleted"
	if a.GetState() == stateReady {
		status = "running"
	}
	text, err := json.Marshal(map[string]any{"pid": a.GetPid(), "processStatus": status, "shimPid": os.Getpid(), "bundle": s.bundle})
	return map[string]string{"info": string(text)}, err
}

// PingSandbox implements [sandboxapi.TTRPCSandboxService]. The guest answers.
func (s *Service) PingSandbox(ctx context.Context, r *sandboxapi.PingRequest) (*sandboxapi.PingResponse, error) {
	b, err := s.started(r.GetSandboxID())
	if err != nil {
		return nil, err
	}
	return &sandboxapi.PingResponse{}, b.Ping(ctx)
}

// ShutdownSandbox implements [sandboxapi.TTRPCSandboxService]. It ends the shim,
// which has no other purpose, also when nothing was made in it.
func (s *Service) ShutdownSandbox(ctx context.Context, r *sandboxapi.ShutdownSandboxRequest) (*sandboxapi.ShutdownSandboxResponse, error) {
	s.making.Lock()
	defer s.making.Unlock()
	b, err := s.find(r.GetSandboxID())
	if err != nil && s.id != "" {
		return nil, err
	}
	if b != nil {
		if _, err := s.StopSandbox(ctx, &sandboxapi.StopSandboxRequest{SandboxID: s.id}); err != nil {
			return nil, err
		}
		if err := b.Remove(ctx); err != nil && status.Code(err) != codes.NotFound {
			return nil, err
		}
	}
	s.tasks.End()
	return &sandboxapi.ShutdownSandboxResponse{}, nil
}

// SandboxMetrics implements [sandboxapi.TTRPCSandboxService]: what the machine
// takes of the host.
func (s *Service) SandboxMetrics(_ context.Context, r *sandboxapi.SandboxMetricsRequest) (*sandboxapi.SandboxMetricsResponse, error) {
	b, err := s.started(r.GetSandboxID())
	if err != nil {
		return nil, err
	}
	m, err := b.Stats()
	if err != nil {
		return nil, err
	}
	data, err := typeurl.MarshalAnyToProto(m)
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &sandboxapi.SandboxMetricsResponse{Metrics: &types.Metric{ID: r.GetSandboxID(), Timestamp: timestamppb.Now(), Data: data}}, nil
}

// UpdateSandbox implements [sandboxapi.TTRPCSandboxService]. Clients know that a
// shim need not do it.
func (s *Service) UpdateSandbox(context.Context, *sandboxapi.UpdateSandboxRequest) (*sandboxapi.UpdateSandboxResponse, error) {
	return nil, status.Error(codes.Unimplemented, "a pod keeps the size that it was started with")
}
