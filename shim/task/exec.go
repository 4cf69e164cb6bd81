package task

import (
	"context"

	"github.com/containerd/containerd/api/events"
	"github.com/containerd/containerd/v2/core/runtime"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/microvm/microvm/agent/api"
	"github.com/microvm/microvm/runtime/bundle"
)

// Exec implements [api.TaskService].
func (s *Service) Exec(ctx context.Context, r *api.ExecProcessRequest) (*emptypb.Empty, error) {
	t, err := s.task(r.GetId())
	if err != nil {
		return nil, err
	}
	if _, err := t.process(r.GetExecId()); err == nil {
		return nil, status.Errorf(codes.AlreadyExists, "exec %s already exists in container %s", r.GetExecId(), t.id)
	}
	if err := t.addExec(ctx, r); err != nil {
		return nil, asStatus(err)
	}
	s.events.Send(runtime.TaskExecAddedEventTopic, &events.TaskExecAdded{ContainerID: t.id, ExecID: r.GetExecId()})
	return &emptypb.Empty{}, nil
}

func (t *task) addExec(ctx context.Context, r *api.ExecProcessRequest) error {
	spec, err := api.ProcessSpec(r.GetSpec())
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	spec.Terminal = r.GetTerminal()
	spec.Process = *bundle.GuestProcess(&spec.Process)
	packed, err := api.NewProcessSpec(spec)
	if err != nil {
		return err
	}
	names := stdioNames{r.GetStdin(), r.GetStdout(), r.GetStderr(), r.GetTerminal()}
	io, err := openStreams(ctx, t.machine.vm, t.id, names)
	if err != nil {
		return t.machine.explain(err)
	}
	request := &api.ExecProcessRequest{
		Id: t.id, ExecId: r.GetExecId(), Terminal: r.GetTerminal(),
		Stdin: io.guest.Stdin, Stdout: io.guest.Stdout, Stderr: io.guest.Stderr, Spec: packed,
	}
	if _, err = ask(ctx, t, workGrace, request, t.guest.Exec); err != nil {
		io.close()
		return err
	}
	io.flow()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.execs[r.GetExecId()] = newProcess(t.id, r.GetExecId(), names, io)
	return nil
}
