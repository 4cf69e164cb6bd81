package main

import (
	"errors"

	"github.com/microvm/microvm/runtime/container"
)

// Exit codes besides a container's own, which are the shell's.
const (
	codeFailure = 1
	codeDenied  = 126 // the program cannot be executed
	codeMissing = 127 // the program does not exist
	codeExec    = 255 // an exec that could not be started
)

// exitCode ends the command with a code; without an err nothing is printed.
type exitCode struct {
	code int
	err  error
}

func (e exitCode) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e exitCode) Unwrap() error { return e.err }

// codeOf is the code for an error that has ended a command.
func codeOf(err error) int {
	var e exitCode
	switch {
	case errors.Is(err, container.ErrProgramMissing):
		return codeMissing
	case errors.Is(err, container.ErrProgramDenied):
		return codeDenied
	case errors.As(err, &e) && e.code > 0:
		return e.code
	}
	return codeFailure
}

// exitWith ends the command with a container's code.
func exitWith(code int) error {
	if code == 0 {
		return nil
	}
	return exitCode{code: code}
}
