package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/urfave/cli/v2"
)

// arguments bounds the number of a verb's arguments; most < 0 is no bound.
func arguments(least, most int) cli.BeforeFunc {
	return func(c *cli.Context) error {
		how, n := "", 0
		switch {
		case least == most && c.NArg() != least:
			how, n = "exactly", least
		case c.NArg() < least:
			how, n = "a minimum of", least
		case most >= 0 && c.NArg() > most:
			how, n = "a maximum of", most
		default:
			return nil
		}
		fmt.Fprintf(c.App.Writer, "Incorrect Usage.\n\n")
		_ = cli.ShowSubcommandHelp(c)
		return fmt.Errorf("%s: %q requires %s %d argument(s)", os.Args[0], c.Command.Name, how, n)
	}
}

// badFlag shows how a verb is used when its flags make no sense.
func badFlag(c *cli.Context, err error, _ bool) error {
	fmt.Fprintf(c.App.Writer, "Incorrect Usage: %s\n\n", err)
	_ = cli.ShowSubcommandHelp(c)
	return err
}

const idUsage = `<container-id>

Where "<container-id>" is your name for the instance of the container. It must
be unique on your host.`

// id is the container that a verb is about.
func id(c *cli.Context) (string, error) {
	if first := c.Args().First(); first != "" {
		return first, nil
	}
	return "", errors.New("container id cannot be empty")
}

// refuseDescriptors refuses --preserve-fds: descriptors stay on this side of
// the machine's boundary.
func refuseDescriptors(c *cli.Context) error {
	if c.Int("preserve-fds") != 0 {
		return errors.New("--preserve-fds: descriptors of the host cannot be passed into a machine")
	}
	return nil
}
