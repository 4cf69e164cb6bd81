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
		Name:  "check",
		Usage: "say what this host offers for machines and which kind is used, or how a running machine is confined",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "json", Usage: "print JSON"},
			&cli.StringFlag{Name: "sandbox", Usage: "say how the VM process of the container `ID` is confined"},
			&cli.IntFlag{Name: "pid", Usage: "say how the VM process `PID` is confined, which is the task's with containerd"},
		},
		Before:       arguments(0, 0),
		OnUsageError: badFlag,
		Action: func(c *cli.Context) error {
			switch {
			case c.IsSet("sandbox"):
				return checkSandbox(c, c.String("sandbox"))
			case c.IsSet("pid"):
				return checkProcess(c, c.Int("pid"))
			}
			return checkHost(c)
		},
	}
}

// checkSandbox is checkProcess for a container of this command.
func checkSandbox(c *cli.Context, name string) error {
	store := reader(c).Store
	s, err := store.Load(name)
	if err == nil && s.In != "" {
		s, err = store.Load(s.In)
	}
	if err != nil {
		return err
	}
	if !s.VM.Alive() {
		return fmt.Errorf("container %s has no machine: it is %s", name, s.Current())
	}
	return checkProcess(c, s.VM.PID)
}

// checkProcess says how a running process is confined.
func checkProcess(c *cli.Context, pid int) error {
	p, err := hostcheck.ReadMachine(pid)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return p.WriteJSON(c.App.Writer)
	}
	return p.WriteText(c.App.Writer)
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
