package main

import (
	"context"
	"errors"
	"os"
	"os/exec"

	"github.com/microvm/microvm/tests/lab"
	"github.com/microvm/microvm/tests/lab/guest"
)

// runHere runs the command on this host. It finds results' directory in LAB_OUT,
// as there is no /lab/out.
func runHere(ctx context.Context, options *lab.Options) (int, error) {
	if options.Network.IsValid() {
		return 0, errors.New("run with a network: this host has KVM, so that there is no machine to join: leave -network away, or add -machine")
	}
	cmd := exec.CommandContext(ctx, options.Args[0], options.Args[1:]...)
	cmd.Dir = options.Dir
	cmd.Env = options.Env
	if options.OutputDir != "" {
		if err := os.MkdirAll(options.OutputDir, 0o755); err != nil {
			return 0, err
		}
		cmd.Env = append(cmd.Env, guest.OutputVariable+"="+options.OutputDir)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && ctx.Err() == nil {
		return exit.ExitCode(), nil
	}
	return 0, errors.Join(err, ctx.Err())
}
