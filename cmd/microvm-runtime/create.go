package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/microvm/microvm/runtime/container"
)

func createCommand() *cli.Command {
	return &cli.Command{
		Name:         "create",
		Usage:        "create a container",
		ArgsUsage:    idUsage,
		Flags:        createFlags(),
		Before:       arguments(1, 1),
		OnUsageError: badFlag,
		Action: func(c *cli.Context) error {
			if err := create(c, false); err != nil {
				return fmt.Errorf("microvm-runtime create failed: %w", err)
			}
			return nil
		},
	}
}

// createFlags are what create and run have in common.
func createFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "bundle", Aliases: []string{"b"}, Usage: "path to the root of the bundle directory, defaults to the current directory"},
		&cli.StringFlag{Name: "console-socket", Usage: "path to an AF_UNIX socket which will receive a file descriptor referencing the master end of the console's pseudoterminal"},
		&cli.StringFlag{Name: "pid-file", Usage: "specify the file to write the process id to"},
		&cli.StringFlag{Name: "pidfd-socket", Usage: "path to an AF_UNIX socket which will receive a file descriptor referencing the process"},
		&cli.BoolFlag{Name: "no-pivot", Usage: "accepted: the root of a container is never on the host's"},
		&cli.BoolFlag{Name: "no-new-keyring", Usage: "accepted: the guest has keyrings of its own"},
		&cli.IntFlag{Name: "preserve-fds", Usage: "only 0: descriptors cannot be passed into a machine"},
	}
}

func createRequest(c *cli.Context) (container.CreateRequest, error) {
	name, err := id(c)
	if err != nil {
		return container.CreateRequest{}, err
	}
	return container.CreateRequest{
		ID: name, Bundle: c.String("bundle"), ConsoleSocket: c.String("console-socket"),
		PIDFile: c.String("pid-file"), PidfdSocket: c.String("pidfd-socket"), Zero: started,
	}, refuseDescriptors(c)
}

// create makes a container in the background.
func create(c *cli.Context, start bool) error {
	r, err := createRequest(c)
	if err != nil {
		return err
	}
	r.Start = start
	e, err := newEngine(c)
	if err != nil {
		return err
	}
	return e.Create(c.Context, r)
}
