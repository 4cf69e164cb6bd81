package process

import (
	"errors"
	"fmt"
)

// Classes of errors, to be matched with errors.Is. The text of an error is
// meant for the user and does not contain its class.
var (
	ErrNotFound    = errors.New("not found")
	ErrExists      = errors.New("already exists")
	ErrState       = errors.New("wrong state")
	ErrInvalid     = errors.New("invalid argument")
	ErrUnsupported = errors.New("not supported")
)

// classed is an error of a class.
type classed struct {
	class error
	error
}

func (e classed) Is(target error) bool { return target == e.class }

func (e classed) Unwrap() error { return e.error }

func fail(class error, format string, args ...any) error {
	return classed{class, fmt.Errorf(format, args...)}
}
