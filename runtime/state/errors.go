package state

import "errors"

// Classes of errors, with runc's wording. They are matched with errors.Is.
var (
	ErrExists     = errors.New("container with given ID already exists")
	ErrInvalidID  = errors.New("invalid container ID format")
	ErrNotExist   = errors.New("container does not exist")
	ErrNotRunning = errors.New("container not running")
)
