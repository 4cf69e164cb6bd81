package process

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/opencontainers/runc/libcontainer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/microvm/microvm/agent/api"
)

func TestStatusOf(t *testing.T) {
	for want, err := range map[codes.Code]error{
		codes.NotFound:           fail(ErrNotFound, "x"),
		codes.AlreadyExists:      classify(libcontainer.ErrExist),
		codes.FailedPrecondition: classify(libcontainer.ErrNotRunning),
		codes.InvalidArgument:    classify(libcontainer.ErrInvalidID),
		codes.Unimplemented:      fail(ErrUnsupported, "x"),
		codes.Canceled:           context.Canceled,
		codes.Unknown:            errors.New("x"),
	} {
		got := status.Convert(statusOf(err))
		if got.Code() != want || got.Message() != err.Error() {
			t.Errorf("%v: got %v %q", err, got.Code(), got.Message())
		}
	}
}

// TestService takes a container and an exec through their lives by requests.
func TestService(t *testing.T) {
	w := newWorld(t)
	s := Service{w.Engine}
	ctx := t.Context()
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	options, err := api.NewContainerOptions(w.spec("sleep", "1000"))
	must(nil, err)
	must(s.Create(ctx, &api.CreateTaskRequest{Id: "c", Bundle: "/b", Options: options}))
	must(s.Start(ctx, &api.StartRequest{Id: "c"}))
	process, err := api.NewProcessSpec(&api.ExecProcess{Process: *process1("sh", "-c", "exit 9")})
	must(nil, err)
	must(s.Exec(ctx, &api.ExecProcessRequest{Id: "c", ExecId: "e", Spec: process}))
	must(s.Start(ctx, &api.StartRequest{Id: "c", ExecId: "e"}))
	exit, err := s.Wait(ctx, &api.WaitRequest{Id: "c", ExecId: "e"})
	must(nil, err)
	if exit.ExitStatus != 9 || exit.ExitedAt == nil {
		t.Errorf("wait: got %v", exit)
	}
	state, err := s.State(ctx, &api.StateRequest{Id: "c"})
	must(nil, err)
	if state.Status != api.Status_RUNNING || state.Bundle != "/b" || state.ExitedAt != nil {
		t.Errorf("state: got %v", state)
	}
	connected, err := s.Connect(ctx, &api.ConnectRequest{Id: "c"})
	must(nil, err)
	if connected.TaskPid != state.Pid {
		t.Errorf("connect: got %v", connected)
	}
	must(s.Kill(ctx, &api.KillRequest{Id: "c", Signal: 9, All: true}))
	must(s.Wait(ctx, &api.WaitRequest{Id: "c"}))
	gone, err := s.Delete(ctx, &api.DeleteRequest{Id: "c"})
	must(nil, err)
	if gone.ExitStatus != 137 || gone.Pid != state.Pid {
		t.Errorf("delete: got %v", gone)
	}
	_, err = s.State(ctx, &api.StateRequest{Id: "c"})
	if status.Code(err) != codes.NotFound {
		t.Errorf("state after delete: %v", err)
	}
}

func TestServiceRefuses(t *testing.T) {
	w := newWorld(t)
	s := Service{w.Engine}
	if _, err := s.Create(t.Context(), &api.CreateTaskRequest{Id: "c"}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("create without options: %v", err)
	}
	w.sleeper("c")
	if _, err := s.Exec(t.Context(), &api.ExecProcessRequest{Id: "c", ExecId: "e"}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("exec without a process: %v", err)
	}
	if _, err := s.ResizePty(t.Context(), &api.ResizePtyRequest{Id: "c", Width: 1 << 16}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("huge terminal: %v", err)
	}
	if _, err := s.ResizePty(t.Context(), &api.ResizePtyRequest{Id: "c", Width: 80}); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("resize of no terminal: %v", err)
	}
}

func TestMany(t *testing.T) {
	w := newWorld(t)
	w.sleeper("c")
	const n = 20
	done := make(chan error, n)
	for i := range n {
		go func() {
			id := string(rune('a' + i))
			err := w.Exec(context.Background(), "c", id, &api.ExecProcess{Process: *process1("sh", "-c", "exit 5")}, Stdio{})
			if err == nil {
				_, err = w.Start("c", id)
			}
			if err == nil {
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				var exit Exit
				if exit, err = w.Wait(ctx, "c", id); err == nil && exit.Code != 5 {
					err = errors.New("wrong exit code")
				}
			}
			done <- err
		}()
	}
	for range n {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
