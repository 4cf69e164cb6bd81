package container

import (
	"context"
	"errors"
	"regexp"
	"sync"

	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/microvm/microvm/runtime/state"
)

// Classes of errors, matched with errors.Is; those of package state come too.
var (
	// ErrState says that the container is in the wrong state for the call.
	ErrState = errors.New("wrong state")
	// ErrProgramMissing and ErrProgramDenied say that the process could not
	// be executed.
	ErrProgramMissing = errors.New("program not found")
	ErrProgramDenied  = errors.New("program cannot be executed")
)

// classed adds classes to an error without changing its text.
type classed struct {
	error
	classes []error
}

// Unwrap makes errors.Is find error and classes.
func (e classed) Unwrap() []error { return append([]error{e.error}, e.classes...) }

func inClass(err error, classes ...error) error { return classed{err, classes} }

// Messages of libcontainer when a program cannot be executed. They are compiled
// when there is an error: most commands end without.
var (
	missingProgram = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`exec: .*(executable file not found in \$PATH|no such file or directory)|fork/exec .*: no such file or directory`)
	})
	deniedProgram = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`exec: .*(permission denied|is a directory|exec format error)|exec .*: exec format error`)
	})
)

// agentError is err from a call of the agent with its text alone, which is
// meant for the user, and its class.
func agentError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.DeadlineExceeded), status.Code(err) == codes.DeadlineExceeded:
		return inClass(errors.New("the guest does not answer"), context.DeadlineExceeded)
	case errors.Is(err, ttrpc.ErrClosed):
		return inClass(errors.New("the machine ended before it answered"), ttrpc.ErrClosed)
	}
	s, ok := status.FromError(err)
	if !ok {
		return err
	}
	plain := errors.New(s.Message())
	switch {
	case missingProgram().MatchString(s.Message()):
		return inClass(plain, ErrProgramMissing)
	case deniedProgram().MatchString(s.Message()):
		return inClass(plain, ErrProgramDenied)
	}
	switch s.Code() {
	case codes.NotFound:
		return inClass(plain, state.ErrNotExist)
	case codes.AlreadyExists:
		return inClass(plain, state.ErrExists)
	case codes.FailedPrecondition:
		return inClass(plain, ErrState)
	}
	return plain
}
