package api

import (
	"context"
	"net"
	"path/filepath"
	"testing"
	"time"

	task "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types"
	taskstate "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

func TestMessagesMatchContainerd(t *testing.T) {
	theirs := []protoreflect.FileDescriptor{
		task.File_runtime_task_v3_shim_proto, types.File_types_mount_proto, taskstate.File_types_task_task_proto,
	}
	ours := File_task_proto.Messages()
	for i := range ours.Len() {
		name := ours.Get(i).Name()
		want := findMessage(theirs, name)
		if want == nil {
			t.Errorf("containerd has no message %s", name)
			continue
		}
		compareFields(t, ours.Get(i).Fields(), want.Fields())
	}
	enum := taskstate.File_types_task_task_proto.Enums().ByName("Status").Values()
	for i := range enum.Len() {
		if got := Status(enum.Get(i).Number()).String(); got != string(enum.Get(i).Name()) {
			t.Errorf("status %d: got %s, want %s", i, got, enum.Get(i).Name())
		}
	}
}

func findMessage(files []protoreflect.FileDescriptor, name protoreflect.Name) protoreflect.MessageDescriptor {
	if name == "TaskShutdownRequest" {
		name = "ShutdownRequest"
	}
	for _, f := range files {
		if m := f.Messages().ByName(name); m != nil {
			return m
		}
	}
	return nil
}

func compareFields(t *testing.T, got, want protoreflect.FieldDescriptors) {
	t.Helper()
	if got.Len() != want.Len() {
		t.Errorf("%s: %d fields, want %d", want.Get(0).Parent().FullName(), got.Len(), want.Len())
		return
	}
	for i := range want.Len() {
		w := want.Get(i)
		g := got.ByNumber(w.Number())
		if g == nil || g.Name() != w.Name() || g.Kind() != w.Kind() || g.Cardinality() != w.Cardinality() {
			t.Errorf("%s: got %v", w.FullName(), g)
		}
	}
}

// echoTask answers State and Wait only.
type echoTask struct{ TaskService }

func (echoTask) State(_ context.Context, req *StateRequest) (*StateResponse, error) {
	return &StateResponse{Id: req.Id, Pid: 7, Status: Status_RUNNING, ExitStatus: 3}, nil
}

func (echoTask) Wait(context.Context, *WaitRequest) (*WaitResponse, error) {
	return nil, status.Error(codes.NotFound, "no such thing")
}

// serve starts an agent that answers with svc and returns a connection to it.
func serve(t *testing.T, svc TaskService) net.Conn {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	srv, err := ttrpc.NewServer()
	if err != nil {
		t.Fatal(err)
	}
	RegisterTaskService(srv, svc)
	done := make(chan struct{})
	go func() { defer close(done); srv.Serve(context.Background(), l) }()
	t.Cleanup(func() { srv.Close(); <-done })
	conn, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestContainerdClient(t *testing.T) {
	c := ttrpc.NewClient(serve(t, echoTask{}))
	defer c.Close()
	got, err := task.NewTTRPCTaskClient(c).State(context.Background(), &task.StateRequest{ID: "a"})
	if err != nil {
		t.Fatal(err)
	}
	want := &task.StateResponse{ID: "a", Pid: 7, Status: taskstate.Status_RUNNING, ExitStatus: 3}
	if !proto.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestClient(t *testing.T) {
	closed := make(chan struct{})
	c := NewClient(serve(t, echoTask{}), func() { close(closed) })
	got, err := c.Task.State(context.Background(), &StateRequest{Id: "b"})
	if err != nil || got.Id != "b" || got.Status != Status_RUNNING {
		t.Errorf("state: got %v, %v", got, err)
	}
	_, err = c.Task.Wait(context.Background(), &WaitRequest{})
	if status.Code(err) != codes.NotFound || status.Convert(err).Message() != "no such thing" {
		t.Errorf("wait: got %v, want the server's error", err)
	}
	c.Close()
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		t.Error("onClose was not called")
	}
}
