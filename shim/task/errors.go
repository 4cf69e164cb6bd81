package task

import (
	"errors"

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
	case errors.Is(err, ttrpc.ErrClosed), errors.Is(err, sandbox.ErrUnreachable):
		return status.Error(codes.FailedPrecondition, "the machine is gone: "+err.Error())
	}
	return status.Error(codes.Unknown, err.Error())
}
