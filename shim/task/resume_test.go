package task

import (
	"context"
	"testing"

	"github.com/containerd/containerd/v2/core/events"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/microvm/microvm/agent/api"
	"github.com/microvm/microvm/runtime/sandbox"
	queue "github.com/microvm/microvm/shim/events"
)

// slow is a guest that resumes its container whatever becomes of who asked for it,
// and once only.
type slow struct {
	*pause
	asked, goOn chan struct{}
	runs        bool
}

func (s *slow) Resume(ctx context.Context, _ *api.ResumeRequest) (*emptypb.Empty, error) {
	if s.runs {
		return nil, status.Error(codes.FailedPrecondition, "container not paused")
	}
	s.runs = true
	close(s.asked)
	select {
	case <-s.goOn:
		return &emptypb.Empty{}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// nobody takes events.
type nobody struct{}

func (nobody) Publish(context.Context, string, events.Event) error { return nil }
func (nobody) Close() error                                        { return nil }

// paused is a container that its guest has paused, and the shim of it.
func paused(t *testing.T, guest guestTask) (*Service, *process) {
	t.Helper()
	q, err := queue.New(namespaces.WithNamespace(t.Context(), "test"), nobody{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(q.Close)
	p := &process{id: "c", started: true, status: api.Status_PAUSED, done: make(chan struct{})}
	tk := &task{id: "c", guest: guest, init: p, machine: &machine{vm: &sandbox.VM{}}}
	return &Service{containers: map[string]*task{"c": tk}, events: q}, p
}

// TestCallOutlivesItsCaller has containerd killed while the guest resumes a container.
func TestCallOutlivesItsCaller(t *testing.T) {
	guest := &slow{asked: make(chan struct{}), goOn: make(chan struct{})}
	s, p := paused(t, guest)
	ctx, kill := context.WithCancel(t.Context())
	over := make(chan error)
	go func() {
		_, err := s.Resume(ctx, &api.ResumeRequest{Id: "c"})
		over <- err
	}()
	<-guest.asked
	kill()
	close(guest.goOn)
	if err := <-over; err != nil || !p.is(api.Status_RUNNING) {
		t.Errorf("%v, status %v", err, p.status)
	}
}

// TestResumeOfWhatRunsAlready comes after a call whose answer came too late.
func TestResumeOfWhatRunsAlready(t *testing.T) {
	s, p := paused(t, &slow{runs: true})
	for _, want := range []codes.Code{codes.OK, codes.FailedPrecondition} { // the second time it is known to run
		if _, err := s.Resume(t.Context(), &api.ResumeRequest{Id: "c"}); status.Code(err) != want || !p.is(api.Status_RUNNING) {
			t.Errorf("%v, status %v, want %v", err, p.status, want)
		}
	}
}
