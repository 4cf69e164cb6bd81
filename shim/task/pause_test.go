package task

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/microvm/microvm/agent/api"
)

func kill(t *testing.T, p *pause, sig unix.Signal) {
	t.Helper()
	if _, err := p.Kill(t.Context(), &api.KillRequest{Signal: uint32(sig)}); err != nil {
		t.Error(err)
	}
}

func TestPauseEndsLikeKubernetesOwn(t *testing.T) {
	for sig, want := range map[unix.Signal]uint32{unix.SIGTERM: 0, unix.SIGINT: 0, unix.SIGKILL: 137} {
		p := newPause(nil)
		kill(t, p, unix.SIGHUP) // nothing to it
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		if _, err := p.Wait(ctx, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("it has ended: %v", err)
		}
		cancel()
		kill(t, p, sig)
		kill(t, p, unix.SIGKILL) // too late
		r, err := p.Wait(t.Context(), nil)
		if err != nil || r.GetExitStatus() != want || r.GetExitedAt() == nil {
			t.Errorf("%v: %v, %v", sig, r, err)
		}
	}
}

func TestPauseEndsWithItsMachine(t *testing.T) {
	over := make(chan struct{})
	close(over)
	if _, err := newPause(over).Wait(t.Context(), nil); !errors.Is(err, ttrpc.ErrClosed) {
		t.Errorf("%v", err)
	}
}

func TestPauseHasNoProcesses(t *testing.T) {
	if _, err := newPause(nil).Exec(t.Context(), nil); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("%v", err)
	}
}
