package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	hostcheck "github.com/microvm/microvm/runtime/check"
)

func checkCommand() *cli.Command {
	return &cli.Command{
		Name:         "check",
		Usage:        "say what this host offers for machines, and which kind is used",
		Flags:        []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "print JSON"}},
		Before:       arguments(0, 0),
		OnUsageError: badFlag,
		Action:       checkHost,
	}
}

// checkHost fails when no machine can be started.
func checkHost(c *cli.Context) error {
	cfg, machine, err := loadConfig(c)
	if err != nil {
		return err
	}
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find own program: %w", err)
	}
	parts := cfg.Locate(filepath.Dir(exe))
	r := hostcheck.NewReport(hostcheck.Probe(parts), cmp.Or(machine, cfg.Machine))
	write := r.WriteText
	if c.Bool("json") {
		write = r.WriteJSON
	}
	if err := write(c.App.Writer); err != nil {
		return err
	}
	return cmp.Or(r.Err(), parts.Missing(r.Machine))
}
