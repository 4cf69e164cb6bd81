package main

import (
	"fmt"

	"github.com/urfave/cli/v2"
)

func checkpointCommand() *cli.Command {
	return refusedCommand("checkpoint", "not supported: a machine cannot be saved")
}

func restoreCommand() *cli.Command {
	return refusedCommand("restore", "not supported: a machine cannot be saved")
}

// refusedCommand is a verb of runc's that is not there.
func refusedCommand(name, why string) *cli.Command {
	return &cli.Command{
		Name:            name,
		Usage:           why,
		SkipFlagParsing: true,
		Action: func(*cli.Context) error {
			return fmt.Errorf("%s is %s", name, why)
		},
	}
}
