package container

import (
	"context"
	"errors"
	"math"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/microvm/microvm/agent/api"
)

// liar is an agent that answers every Wait with the same.
type liar struct {
	api.TaskService
	exit uint32
	err  error
}

func (l liar) Wait(context.Context, *api.WaitRequest) (*api.WaitResponse, error) {
	return &api.WaitResponse{ExitStatus: l.exit}, l.err
}

// TestExitCodeOfALyingAgent has one that exit(2) can give, whatever the agent says.
func TestExitCodeOfALyingAgent(t *testing.T) {
	for exit, want := range map[uint32]int{0: 0, 255: 255, 256: 0, 257: 1, math.MaxUint32: 255, 1 << 31: 0} {
		p := process{agent: &api.Client{Task: liar{exit: exit}}}
		if code, err := p.wait(t.Context()); code != want || err != nil {
			t.Errorf("%d: %d, %v; want %d", exit, code, err, want)
		}
	}
	// Nor is it believed when it has an error, which is none of this side's classes
	// but by its code.
	p := process{agent: &api.Client{Task: liar{exit: 7, err: status.Error(codes.Code(99), "/etc/shadow: no such file")}}}
	if code, err := p.wait(t.Context()); code != exitLost || err == nil || errors.Is(err, errLost) {
		t.Errorf("%d, %v", code, err)
	}
}
