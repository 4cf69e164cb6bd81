package main

import (
	"encoding/json"

	"github.com/urfave/cli/v2"
)

func stateCommand() *cli.Command {
	return &cli.Command{
		Name:         "state",
		Usage:        "output the state of a container",
		ArgsUsage:    idUsage,
		Before:       arguments(1, 1),
		OnUsageError: badFlag,
		Action: func(c *cli.Context) error {
			name, err := id(c)
			if err != nil {
				return err
			}
			info, err := reader(c).State(name)
			if err != nil {
				return err
			}
			data, err := json.MarshalIndent(info, "", "  ")
			if err != nil {
				return err
			}
			_, err = c.App.Writer.Write(data)
			return err
		},
	}
}
