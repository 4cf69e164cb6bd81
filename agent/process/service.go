package process

import (
	"context"
	"errors"
	"math"
	"os"
	"syscall"

	"github.com/containerd/typeurl/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/microvm/microvm/agent/api"
)

// Service answers the task service for an engine.
type Service struct{ Engine *Engine }

var _ api.TaskService = Service{}

// statusOf gives err the code of its class; its text goes to the user as it is.
func statusOf(err error) error {
	if err == nil {
		return nil
	}
	for class, code := range map[error]codes.Code{
		ErrNotFound:              codes.NotFound,
		ErrExists:                codes.AlreadyExists,
		ErrState:                 codes.FailedPrecondition,
		ErrInvalid:               codes.InvalidArgument,
		ErrUnsupported:           codes.Unimplemented,
		context.Canceled:         codes.Canceled,
		context.DeadlineExceeded: codes.DeadlineExceeded,
	} {
		if errors.Is(err, class) {
			return status.Error(code, err.Error())
		}
	}
	return status.Error(codes.Unknown, err.Error())
}

func empty(err error) (*emptypb.Empty, error) {
	if err != nil {
		return nil, statusOf(err)
	}
	return &emptypb.Empty{}, nil
}

// Create implements [api.TaskService].
func (s Service) Create(ctx context.Context, req *api.CreateTaskRequest) (*api.CreateTaskResponse, error) {
	spec, err := api.ContainerSpec(req.GetOptions())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	stdio := Stdio{req.GetStdin(), req.GetStdout(), req.GetStderr(), req.GetTerminal()}
	pid, err := s.Engine.Create(ctx, req.GetId(), req.GetBundle(), spec, req.GetRootfs(), stdio)
	if err != nil {
		return nil, statusOf(err)
	}
	return &api.CreateTaskResponse{Pid: uint32(pid)}, nil
}

// Start implements [api.TaskService].
func (s Service) Start(_ context.Context, req *api.StartRequest) (*api.StartResponse, error) {
	pid, err := s.Engine.Start(req.GetId(), req.GetExecId())
	if err != nil {
		return nil, statusOf(err)
	}
	return &api.StartResponse{Pid: uint32(pid)}, nil
}

// Exec implements [api.TaskService].
func (s Service) Exec(ctx context.Context, req *api.ExecProcessRequest) (*emptypb.Empty, error) {
	spec, err := api.ProcessSpec(req.GetSpec())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	stdio := Stdio{req.GetStdin(), req.GetStdout(), req.GetStderr(), req.GetTerminal()}
	return empty(s.Engine.Exec(ctx, req.GetId(), req.GetExecId(), spec, stdio))
}

// Delete implements [api.TaskService].
func (s Service) Delete(_ context.Context, req *api.DeleteRequest) (*api.DeleteResponse, error) {
	pid, exit, err := s.Engine.Delete(req.GetId(), req.GetExecId())
	if err != nil {
		return nil, statusOf(err)
	}
	return &api.DeleteResponse{Pid: uint32(pid), ExitStatus: exit.Code, ExitedAt: timestamp(exit)}, nil
}

// timestamp is when a process ended, nil if it has not.
func timestamp(exit Exit) *timestamppb.Timestamp {
	if exit.At.IsZero() {
		return nil
	}
	return timestamppb.New(exit.At)
}

// Wait implements [api.TaskService].
func (s Service) Wait(ctx context.Context, req *api.WaitRequest) (*api.WaitResponse, error) {
	exit, err := s.Engine.Wait(ctx, req.GetId(), req.GetExecId())
	if err != nil {
		return nil, statusOf(err)
	}
	return &api.WaitResponse{ExitStatus: exit.Code, ExitedAt: timestamp(exit)}, nil
}

// State implements [api.TaskService].
func (s Service) State(_ context.Context, req *api.StateRequest) (*api.StateResponse, error) {
	st, err := s.Engine.State(req.GetId(), req.GetExecId())
	if err != nil {
		return nil, statusOf(err)
	}
	return &api.StateResponse{
		Id:         req.GetId(),
		ExecId:     req.GetExecId(),
		Bundle:     st.Bundle,
		Pid:        uint32(st.Pid),
		Status:     st.Status,
		Stdin:      st.Stdio.Stdin,
		Stdout:     st.Stdio.Stdout,
		Stderr:     st.Stdio.Stderr,
		Terminal:   st.Stdio.Terminal,
		ExitStatus: st.Exit.Code,
		ExitedAt:   timestamp(st.Exit),
	}, nil
}

// Pids implements [api.TaskService].
func (s Service) Pids(_ context.Context, req *api.PidsRequest) (*api.PidsResponse, error) {
	pids, err := s.Engine.Pids(req.GetId())
	if err != nil {
		return nil, statusOf(err)
	}
	var resp api.PidsResponse
	for _, pid := range pids {
		resp.Processes = append(resp.Processes, &api.ProcessInfo{Pid: uint32(pid)})
	}
	return &resp, nil
}

// Kill implements [api.TaskService].
func (s Service) Kill(_ context.Context, req *api.KillRequest) (*emptypb.Empty, error) {
	sig := syscall.Signal(req.GetSignal())
	return empty(s.Engine.Kill(req.GetId(), req.GetExecId(), sig, req.GetAll()))
}

// Pause implements [api.TaskService].
func (s Service) Pause(_ context.Context, req *api.PauseRequest) (*emptypb.Empty, error) {
	return empty(s.Engine.Pause(req.GetId()))
}

// Resume implements [api.TaskService].
func (s Service) Resume(_ context.Context, req *api.ResumeRequest) (*emptypb.Empty, error) {
	return empty(s.Engine.Resume(req.GetId()))
}

// ResizePty implements [api.TaskService].
func (s Service) ResizePty(_ context.Context, req *api.ResizePtyRequest) (*emptypb.Empty, error) {
	if req.GetWidth() > math.MaxUint16 || req.GetHeight() > math.MaxUint16 {
		return empty(fail(ErrInvalid, "terminal size %dx%d is too large", req.GetWidth(), req.GetHeight()))
	}
	return empty(s.Engine.Resize(req.GetId(), req.GetExecId(), req.GetWidth(), req.GetHeight()))
}

// CloseIO implements [api.TaskService].
func (s Service) CloseIO(_ context.Context, req *api.CloseIORequest) (*emptypb.Empty, error) {
	if !req.GetStdin() {
		return empty(nil)
	}
	return empty(s.Engine.CloseInput(req.GetId(), req.GetExecId()))
}

// Connect implements [api.TaskService].
func (s Service) Connect(_ context.Context, req *api.ConnectRequest) (*api.ConnectResponse, error) {
	st, err := s.Engine.State(req.GetId(), "")
	if err != nil {
		return nil, statusOf(err)
	}
	return &api.ConnectResponse{ShimPid: uint32(os.Getpid()), TaskPid: uint32(st.Pid), Version: api.Version}, nil
}

// Shutdown implements [api.TaskService].
func (s Service) Shutdown(context.Context, *api.TaskShutdownRequest) (*emptypb.Empty, error) {
	return empty(nil)
}

// Checkpoint implements [api.TaskService].
func (s Service) Checkpoint(context.Context, *api.CheckpointTaskRequest) (*emptypb.Empty, error) {
	return empty(fail(ErrUnsupported, "checkpoint is not supported"))
}

// Update implements [api.TaskService].
func (s Service) Update(_ context.Context, req *api.UpdateTaskRequest) (*emptypb.Empty, error) {
	r, err := api.Resources(req.GetResources())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	return empty(s.Engine.Update(req.GetId(), r))
}

// Stats implements [api.TaskService].
func (s Service) Stats(_ context.Context, req *api.StatsRequest) (*api.StatsResponse, error) {
	m, err := s.Engine.Stats(req.GetId())
	if err != nil {
		return nil, statusOf(err)
	}
	packed, err := typeurl.MarshalAnyToProto(m)
	if err != nil {
		return nil, statusOf(err)
	}
	return &api.StatsResponse{Stats: packed}, nil
}
