package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/sirupsen/logrus"
	"github.com/urfave/cli/v2"

	"github.com/microvm/microvm/runtime/config"
	"github.com/microvm/microvm/runtime/container"
	"github.com/microvm/microvm/runtime/state"
)

// reader is an engine for verbs that start nothing: it reads no configuration.
func reader(c *cli.Context) *container.Engine {
	return &container.Engine{Store: state.Store{Root: c.String("root")}, Log: logrus.NewEntry(logrus.StandardLogger())}
}

// newEngine is an engine for verbs that start something.
func newEngine(c *cli.Context) (*container.Engine, error) {
	e := reader(c)
	var err error
	if e.Config, e.Machine, err = loadConfig(c); err != nil {
		return nil, err
	}
	if e.Config.Debug {
		logrus.SetLevel(logrus.DebugLevel)
	}
	e.SystemdCgroup = c.Bool("systemd-cgroup")
	e.Config.Debug = e.Config.Debug || c.Bool("debug")
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find own program: %w", err)
	}
	e.ExeDir = filepath.Dir(exe)
	e.Monitor, err = monitorArgs(c, exe)
	return e, err
}

// loadConfig reads the configuration and --machine.
func loadConfig(c *cli.Context) (config.Config, string, error) {
	machine := c.String("machine")
	if err := (config.Config{Machine: machine}).Validate(); err != nil {
		return config.Config{}, "", fmt.Errorf("--%w", err)
	}
	cfg, err := config.Load(c.String("config"))
	return cfg, machine, err
}

// monitorArgs is the command line of a monitor with this command's settings.
func monitorArgs(c *cli.Context, exe string) ([]string, error) {
	args := []string{exe, "--root", c.String("root"), "--log-format", c.String("log-format"), "--machine", c.String("machine")}
	for _, name := range []string{"log", "config"} {
		path := c.String(name)
		if path == "" {
			continue
		}
		abs, err := filepath.Abs(path)
		if err != nil {
			return nil, err
		}
		args = append(args, "--"+name, abs)
	}
	for _, name := range []string{"debug", "systemd-cgroup"} {
		if c.Bool(name) {
			args = append(args, "--"+name)
		}
	}
	return append(args, "monitor"), nil
}
