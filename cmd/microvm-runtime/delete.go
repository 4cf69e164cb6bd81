package main

import "github.com/urfave/cli/v2"

func deleteCommand() *cli.Command {
	return &cli.Command{
		Name:         "delete",
		Usage:        "delete any resources held by the container often used with detached container",
		ArgsUsage:    idUsage,
		Flags:        []cli.Flag{&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "Forcibly deletes the container if it is still running (uses SIGKILL)"}},
		Before:       arguments(1, 1),
		OnUsageError: badFlag,
		Action: func(c *cli.Context) error {
			name, err := id(c)
			if err != nil {
				return err
			}
			return reader(c).Delete(c.Context, name, c.Bool("force"))
		},
	}
}
