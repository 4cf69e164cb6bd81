package task

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/microvm/microvm/runtime/sandbox"
)

// asStatus gives err a code that containerd understands; one from the agent
// has it already.
func asStatus(err error) error {
	var known interface{ GRPCStatus() *status.Status }
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		return status.Error(known.GRPCStatus().Code(), known.GRPCStatus().Message())
	}
	return status.Error(codes.Unknown, err.Error())
}

// endGrace is how long a machine's end may come after the first sign of it.
const endGrace = 5 * time.Second

// explain makes of a failed call's error what containerd is told: often the
// cause is the machine's end.
func (m *machine) explain(err error) error {
	grace := time.Duration(0)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.DeadlineExceeded), status.Code(err) == codes.DeadlineExceeded:
		return status.Error(codes.DeadlineExceeded, "the guest does not answer: "+err.Error())
	case errors.Is(err, ttrpc.ErrClosed), errors.Is(err, sandbox.ErrUnreachable):
		grace = endGrace
	}
	select {
	case <-m.vm.Done():
		text := fmt.Sprintf("the machine is gone: %v", m.vm.End())
		if why := m.starvation(); why != "" {
			text = why + ": " + text
		}
		return status.Error(codes.FailedPrecondition, text)
	case <-time.After(grace):
		return asStatus(err)
	}
}
