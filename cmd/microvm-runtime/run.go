package main

import (
	"fmt"

	"github.com/urfave/cli/v2"
)

func runCommand() *cli.Command {
	return &cli.Command{
		Name:      "run",
		Usage:     "create and run a container",
		ArgsUsage: idUsage,
		Flags: append(createFlags(),
			&cli.BoolFlag{Name: "detach", Aliases: []string{"d"}, Usage: "detach from the container's process"},
			&cli.BoolFlag{Name: "keep", Usage: "do not delete the container after it exits"},
			&cli.BoolFlag{Name: "no-subreaper", Usage: "accepted: the guest reaps"},
			&cli.StringFlag{Name: "timeline", Usage: "write the times of the start's stages to `file`, as JSON"}),
		Before:       arguments(1, 1),
		OnUsageError: badFlag,
		Action: func(c *cli.Context) error {
			code, err := runContainer(c)
			if err != nil {
				return exitCode{code, fmt.Errorf("microvm-runtime run failed: %w", err)}
			}
			return exitWith(code)
		},
	}
}

func runContainer(c *cli.Context) (code int, err error) {
	if c.Bool("detach") {
		return 0, create(c, true)
	}
	r, err := createRequest(c)
	if err != nil {
		return -1, err
	}
	r.Keep, r.TimelineFile = c.Bool("keep"), c.String("timeline")
	e, err := newEngine(c)
	if err != nil {
		return -1, err
	}
	return e.Run(c.Context, r)
}
