package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/runtime/state"
)

func killCommand() *cli.Command {
	return &cli.Command{
		Name:         "kill",
		Usage:        "kill sends the specified signal (default: SIGTERM) to the container's init process",
		ArgsUsage:    "<container-id> [signal]",
		Flags:        []cli.Flag{&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "send the signal to all processes inside the container"}},
		Before:       arguments(1, 2),
		OnUsageError: badFlag,
		Action: func(c *cli.Context) error {
			name, err := id(c)
			if err != nil {
				return err
			}
			sig, err := parseSignal(c.Args().Get(1))
			if err != nil {
				return err
			}
			err = reader(c).Kill(c.Context, name, sig, c.Bool("all"))
			if c.Bool("all") && errors.Is(err, state.ErrNotRunning) {
				return nil
			}
			return err
		},
	}
}

// parseSignal reads a signal's number, or its name with or without SIG.
func parseSignal(text string) (unix.Signal, error) {
	if text == "" {
		return unix.SIGTERM, nil
	}
	const lastSignal = 64
	if n, err := strconv.Atoi(text); err == nil {
		if n < 0 || n > lastSignal {
			return 0, fmt.Errorf("unknown signal %q", text)
		}
		return unix.Signal(n), nil
	}
	name := strings.ToUpper(text)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if sig := unix.SignalNum(name); sig != 0 {
		return sig, nil
	}
	return 0, fmt.Errorf("unknown signal %q", text)
}
