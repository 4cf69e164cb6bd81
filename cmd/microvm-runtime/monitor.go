package main

import (
	"os"

	"github.com/urfave/cli/v2"
)

// monitorCommand is the process behind create, run --detach and exec --detach.
func monitorCommand() *cli.Command {
	return &cli.Command{
		Name:   "monitor",
		Hidden: true,
		Usage:  "look after a container; started by other commands only",
		Action: func(c *cli.Context) error {
			e, err := newEngine(c)
			if err != nil {
				return err
			}
			// Keep no directory busy.
			if err := os.Chdir("/"); err != nil {
				return err
			}
			code, err := e.ServeMonitor(c.Context)
			if err != nil {
				return exitCode{code, err}
			}
			return exitWith(code)
		},
	}
}
