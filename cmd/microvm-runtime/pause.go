package main

import (
	"context"

	"github.com/urfave/cli/v2"

	"github.com/microvm/microvm/runtime/container"
)

func pauseCommand() *cli.Command {
	return simpleCommand("pause", "pause suspends all processes inside the container", (*container.Engine).Pause)
}

func resumeCommand() *cli.Command {
	return simpleCommand("resume", "resumes all processes that have been previously paused", (*container.Engine).Resume)
}

// simpleCommand is a verb with a container and nothing else.
func simpleCommand(name, usage string, call func(*container.Engine, context.Context, string) error) *cli.Command {
	return &cli.Command{
		Name:         name,
		Usage:        usage,
		ArgsUsage:    idUsage,
		Before:       arguments(1, 1),
		OnUsageError: badFlag,
		Action: func(c *cli.Context) error {
			name, err := id(c)
			if err != nil {
				return err
			}
			return call(reader(c), c.Context, name)
		},
	}
}
