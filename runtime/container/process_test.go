package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/microvm/microvm/agent/api"
	"github.com/microvm/microvm/runtime/bundle"
	"github.com/microvm/microvm/runtime/state"
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

// silent is an agent that is asked to create and start a container, and has not answered
// when its caller's patience is over.
type silent struct {
	api.TaskService
	asked []context.Context
}

func (s *silent) Create(ctx context.Context, _ *api.CreateTaskRequest) (*api.CreateTaskResponse, error) {
	s.asked = append(s.asked, ctx)
	return nil, context.DeadlineExceeded
}

func (s *silent) Start(ctx context.Context, _ *api.StartRequest) (*api.StartResponse, error) {
	s.asked = append(s.asked, ctx)
	return nil, context.DeadlineExceeded
}

// speechless has no warnings.
type speechless struct{ api.MachineService }

func (speechless) Warnings(context.Context, *api.WarningsRequest) (*api.WarningsResponse, error) {
	return nil, context.DeadlineExceeded
}

// living is a machine that goes on.
type living struct {
	machine
	agent  *api.Client
	socket string
}

func (l living) Agent() *api.Client    { return l.agent }
func (l living) Socket() string        { return l.socket }
func (l living) Done() <-chan struct{} { return nil }

// TestSilentAgent wants no call of a container's monitor to wait for ever.
func TestSilentAgent(t *testing.T) {
	e := newEngine(t)
	e.put(t, state.State{ID: "x", Status: specs.StateCreating})
	agent := &silent{}
	client := &api.Client{Task: agent, Machine: speechless{}}
	socket := filepath.Join(t.TempDir(), "sock")
	serveStreams(t, socket)
	b := &bundle.Bundle{Dir: t.TempDir(), Spec: &specs.Spec{Process: &specs.Process{}}}
	s := &supervisor{
		engine: e, request: CreateRequest{ID: "x"}, machine: living{agent: client, socket: socket},
		design: &design{bundle: b, plan: &bundle.Plan{Guest: &specs.Spec{}}},
	}
	defer s.undo.run()
	for name, do := range map[string]step{"create": s.create, "start": s.start} {
		s.process = &process{agent: client, id: "x", log: e.log("x")}
		if err := do(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, ctx := range agent.asked {
		if end, bounded := ctx.Deadline(); !bounded || time.Until(end) > workGrace {
			t.Errorf("a call may take until %v", end)
		}
	}
	if len(agent.asked) != 2 {
		t.Errorf("%d calls", len(agent.asked))
	}
}

// serveStreams takes each connection for a stream of a guest's.
func serveStreams(t *testing.T, socket string) {
	t.Helper()
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				fmt.Fprint(c, "OK 1\n")
				io.Copy(io.Discard, c)
			}()
		}
	}()
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
