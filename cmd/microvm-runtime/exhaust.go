package main

import (
	"errors"

	"github.com/urfave/cli/v2"

	"github.com/microvm/microvm/runtime/cgroup"
	"github.com/microvm/microvm/runtime/container"
)

// exhaustCommand is the process that is killed for a container that had no
// memory left.
func exhaustCommand() *cli.Command {
	return &cli.Command{
		Name:   container.ExhaustVerb,
		Hidden: true,
		Usage:  "use up the memory of a cgroup; started by other commands only",
		Action: func(*cli.Context) error {
			if err := cgroup.Exhaust(); err != nil {
				return err
			}
			return errors.New("there was memory left")
		},
	}
}
