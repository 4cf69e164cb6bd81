package main

import (
	"github.com/urfave/cli/v2"

	"github.com/microvm/microvm/runtime/container"
)

func startCommand() *cli.Command {
	return simpleCommand("start", "executes the user defined process in a created container", (*container.Engine).Start)
}
