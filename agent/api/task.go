package api

import (
	"context"

	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
)

// TaskServiceName is the task service's name on the wire, containerd's own.
const TaskServiceName = "containerd.task.v3.Task"

// TaskService is containerd's task service: containers, keyed by id, and
// processes in them, keyed by id and exec id. All methods may be called
// concurrently.
type TaskService interface {
	// State tells where a container or exec is in its life. Status is CREATED
	// until Start, PAUSED while frozen, STOPPED from the exit on.
	State(context.Context, *StateRequest) (*StateResponse, error)
	// Create makes a container whose process waits for Start.
	Create(context.Context, *CreateTaskRequest) (*CreateTaskResponse, error)
	// Start lets a created container or exec run.
	Start(context.Context, *StartRequest) (*StartResponse, error)
	// Delete forgets a container or exec that has stopped or never started.
	Delete(context.Context, *DeleteRequest) (*DeleteResponse, error)
	// Pids lists the pids of a container, in the guest's first pid namespace.
	Pids(context.Context, *PidsRequest) (*PidsResponse, error)
	// Pause freezes a container.
	Pause(context.Context, *PauseRequest) (*emptypb.Empty, error)
	// Resume thaws it.
	Resume(context.Context, *ResumeRequest) (*emptypb.Empty, error)
	// Checkpoint is not supported.
	Checkpoint(context.Context, *CheckpointTaskRequest) (*emptypb.Empty, error)
	// Kill sends a signal to a container's or exec's process, or with All to
	// every process of the container.
	Kill(context.Context, *KillRequest) (*emptypb.Empty, error)
	// Exec adds a process to a running container; Start runs it.
	Exec(context.Context, *ExecProcessRequest) (*emptypb.Empty, error)
	// ResizePty sets the size of a terminal, in characters.
	ResizePty(context.Context, *ResizePtyRequest) (*emptypb.Empty, error)
	// CloseIO closes a process's standard input.
	CloseIO(context.Context, *CloseIORequest) (*emptypb.Empty, error)
	// Update sets a container's resources.
	Update(context.Context, *UpdateTaskRequest) (*emptypb.Empty, error)
	// Wait blocks until the process has ended, and answers at once for one
	// that has; it works until Delete.
	Wait(context.Context, *WaitRequest) (*WaitResponse, error)
	// Stats reads a container's usage.
	Stats(context.Context, *StatsRequest) (*StatsResponse, error)
	// Connect tells the container's pid.
	Connect(context.Context, *ConnectRequest) (*ConnectResponse, error)
	// Shutdown does nothing: the machine's own Shutdown ends the guest.
	Shutdown(context.Context, *TaskShutdownRequest) (*emptypb.Empty, error)
}

// RegisterTaskService makes srv answer the task service with svc.
func RegisterTaskService(srv *ttrpc.Server, svc TaskService) {
	RegisterTaskServiceAs(srv, TaskServiceName, svc)
}

// RegisterTaskServiceAs is RegisterTaskService for another name: version 2 of
// containerd's service has the same messages.
func RegisterTaskServiceAs(srv *ttrpc.Server, name string, svc TaskService) {
	srv.RegisterService(name, &ttrpc.ServiceDesc{Methods: map[string]ttrpc.Method{
		"State":      method(svc.State),
		"Create":     method(svc.Create),
		"Start":      method(svc.Start),
		"Delete":     method(svc.Delete),
		"Pids":       method(svc.Pids),
		"Pause":      method(svc.Pause),
		"Resume":     method(svc.Resume),
		"Checkpoint": method(svc.Checkpoint),
		"Kill":       method(svc.Kill),
		"Exec":       method(svc.Exec),
		"ResizePty":  method(svc.ResizePty),
		"CloseIO":    method(svc.CloseIO),
		"Update":     method(svc.Update),
		"Wait":       method(svc.Wait),
		"Stats":      method(svc.Stats),
		"Connect":    method(svc.Connect),
		"Shutdown":   method(svc.Shutdown),
	}})
}

// message is a pointer to T that is a protobuf message.
type message[T any] interface {
	*T
	proto.Message
}

func method[Req, Resp any, P message[Req], R message[Resp]](serve func(context.Context, P) (R, error)) ttrpc.Method {
	return func(ctx context.Context, unmarshal func(any) error) (any, error) {
		req := P(new(Req))
		if err := unmarshal(req); err != nil {
			return nil, err
		}
		return serve(ctx, req)
	}
}

// NewTaskClient makes calls of the task service over c, which stays the
// caller's.
func NewTaskClient(c *ttrpc.Client) TaskService { return taskClient{c} }

type taskClient struct{ c *ttrpc.Client }

func call[Resp any, R message[Resp]](ctx context.Context, t taskClient, name string, req proto.Message) (R, error) {
	resp := R(new(Resp))
	if err := t.c.Call(ctx, TaskServiceName, name, req, resp); err != nil {
		return nil, err
	}
	return resp, nil
}

func (t taskClient) State(ctx context.Context, req *StateRequest) (*StateResponse, error) {
	return call[StateResponse](ctx, t, "State", req)
}

func (t taskClient) Create(ctx context.Context, req *CreateTaskRequest) (*CreateTaskResponse, error) {
	return call[CreateTaskResponse](ctx, t, "Create", req)
}

func (t taskClient) Start(ctx context.Context, req *StartRequest) (*StartResponse, error) {
	return call[StartResponse](ctx, t, "Start", req)
}

func (t taskClient) Delete(ctx context.Context, req *DeleteRequest) (*DeleteResponse, error) {
	return call[DeleteResponse](ctx, t, "Delete", req)
}

func (t taskClient) Pids(ctx context.Context, req *PidsRequest) (*PidsResponse, error) {
	return call[PidsResponse](ctx, t, "Pids", req)
}

func (t taskClient) Pause(ctx context.Context, req *PauseRequest) (*emptypb.Empty, error) {
	return call[emptypb.Empty](ctx, t, "Pause", req)
}

func (t taskClient) Resume(ctx context.Context, req *ResumeRequest) (*emptypb.Empty, error) {
	return call[emptypb.Empty](ctx, t, "Resume", req)
}

func (t taskClient) Checkpoint(ctx context.Context, req *CheckpointTaskRequest) (*emptypb.Empty, error) {
	return call[emptypb.Empty](ctx, t, "Checkpoint", req)
}

func (t taskClient) Kill(ctx context.Context, req *KillRequest) (*emptypb.Empty, error) {
	return call[emptypb.Empty](ctx, t, "Kill", req)
}

func (t taskClient) Exec(ctx context.Context, req *ExecProcessRequest) (*emptypb.Empty, error) {
	return call[emptypb.Empty](ctx, t, "Exec", req)
}

func (t taskClient) ResizePty(ctx context.Context, req *ResizePtyRequest) (*emptypb.Empty, error) {
	return call[emptypb.Empty](ctx, t, "ResizePty", req)
}

func (t taskClient) CloseIO(ctx context.Context, req *CloseIORequest) (*emptypb.Empty, error) {
	return call[emptypb.Empty](ctx, t, "CloseIO", req)
}

func (t taskClient) Update(ctx context.Context, req *UpdateTaskRequest) (*emptypb.Empty, error) {
	return call[emptypb.Empty](ctx, t, "Update", req)
}

func (t taskClient) Wait(ctx context.Context, req *WaitRequest) (*WaitResponse, error) {
	return call[WaitResponse](ctx, t, "Wait", req)
}

func (t taskClient) Stats(ctx context.Context, req *StatsRequest) (*StatsResponse, error) {
	return call[StatsResponse](ctx, t, "Stats", req)
}

func (t taskClient) Connect(ctx context.Context, req *ConnectRequest) (*ConnectResponse, error) {
	return call[ConnectResponse](ctx, t, "Connect", req)
}

func (t taskClient) Shutdown(ctx context.Context, req *TaskShutdownRequest) (*emptypb.Empty, error) {
	return call[emptypb.Empty](ctx, t, "Shutdown", req)
}
