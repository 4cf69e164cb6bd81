package main

import (
	"fmt"
	"math"

	"golang.org/x/sys/unix"
)

// markDescriptors keeps what this process inherited from every process that it
// starts: nothing may leak into a machine's process. Those that are handed on
// are handed on by number.
func markDescriptors() error {
	if err := unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("mark descriptors close-on-exec: %w", err)
	}
	return nil
}
