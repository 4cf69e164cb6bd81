package task

import (
	"context"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/microvm/microvm/agent/api"
	"github.com/microvm/microvm/runtime/sandbox"
)

// ended is a guest whose process has ended, which the shim is not told yet.
type ended struct{ *pause }

func (ended) Kill(context.Context, *api.KillRequest) (*emptypb.Empty, error) {
	return nil, status.Error(codes.FailedPrecondition, "container not running")
}

func TestKillOfWhatHasJustEnded(t *testing.T) {
	for name, c := range map[string]struct {
		process *process
		want    codes.Code
	}{
		"container":        {&process{id: "c", done: make(chan struct{})}, codes.NotFound},
		"exec":             {&process{id: "c", exec: "e", started: true, done: make(chan struct{})}, codes.NotFound},
		"exec not started": {&process{id: "c", exec: "e", done: make(chan struct{})}, codes.FailedPrecondition},
	} {
		tk := &task{id: "c", guest: ended{}, init: c.process, machine: &machine{vm: &sandbox.VM{}}, execs: map[string]*process{"e": c.process}}
		s := &Service{containers: map[string]*task{"c": tk}}
		if _, err := s.Kill(t.Context(), &api.KillRequest{Id: "c", ExecId: c.process.exec, Signal: sigkill}); status.Code(err) != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}
