package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/urfave/cli/v2"

	"github.com/microvm/microvm/runtime/bundle"
	"github.com/microvm/microvm/runtime/container"
)

func execCommand() *cli.Command {
	return &cli.Command{
		Name:      "exec",
		Usage:     "execute new process inside the container",
		ArgsUsage: "<container-id> <command> [command options]  || -p process.json <container-id>",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "console-socket", Usage: "path to an AF_UNIX socket which will receive a file descriptor referencing the master end of the console's pseudoterminal"},
			&cli.StringFlag{Name: "cwd", Usage: "current working directory in the container"},
			&cli.StringSliceFlag{Name: "env", Aliases: []string{"e"}, Usage: "set environment variables"},
			&cli.BoolFlag{Name: "tty", Aliases: []string{"t"}, Usage: "allocate a pseudo-TTY"},
			&cli.StringFlag{Name: "user", Aliases: []string{"u"}, Usage: "UID (format: <uid>[:<gid>])"},
			&cli.Int64SliceFlag{Name: "additional-gids", Aliases: []string{"g"}, Usage: "additional gids"},
			&cli.StringFlag{Name: "process", Aliases: []string{"p"}, Usage: "path to the process.json"},
			&cli.BoolFlag{Name: "detach", Aliases: []string{"d"}, Usage: "detach from the container's process"},
			&cli.StringFlag{Name: "pid-file", Usage: "specify the file to write the process id to"},
			&cli.StringFlag{Name: "pidfd-socket", Usage: "path to an AF_UNIX socket which will receive a file descriptor referencing the process"},
			&cli.StringFlag{Name: "process-label", Usage: "accepted: labels mean nothing in the guest"},
			&cli.StringFlag{Name: "apparmor", Usage: "refused, but for those that engines give by themselves: the guest has no AppArmor"},
			&cli.BoolFlag{Name: "no-new-privs", Usage: "set the no new privileges value for the process"},
			&cli.StringSliceFlag{Name: "cap", Aliases: []string{"c"}, Usage: "add a capability to the bounding set for the process"},
			&cli.BoolFlag{Name: "ignore-paused", Usage: "wait for a paused container to be resumed"},
			&cli.StringSliceFlag{Name: "cgroup", Usage: "run the process in an existing cgroup below the container's"},
			&cli.IntFlag{Name: "preserve-fds", Usage: "only 0: descriptors cannot be passed into a machine"},
		},
		Before:       arguments(1, -1),
		OnUsageError: badFlag,
		Action: func(c *cli.Context) error {
			code, err := execute(c)
			if err != nil {
				return exitCode{codeExec, fmt.Errorf("exec failed: %w", err)}
			}
			return exitWith(code)
		},
	}
}

func execute(c *cli.Context) (code int, err error) {
	name, err := id(c)
	if err != nil {
		return -1, err
	}
	if err := refuseDescriptors(c); err != nil {
		return -1, err
	}
	cgroup, err := subCgroup(c.StringSlice("cgroup"))
	if err != nil {
		return -1, err
	}
	e, err := newEngine(c)
	if err != nil {
		return -1, err
	}
	dir, err := e.Bundle(name)
	if err != nil {
		return -1, err
	}
	p, err := execProcess(c, dir)
	if err != nil {
		return -1, err
	}
	r := container.ExecRequest{
		ID: name, Process: p, ConsoleSocket: c.String("console-socket"), PIDFile: c.String("pid-file"),
		PidfdSocket: c.String("pidfd-socket"), Cgroup: cgroup, IgnorePaused: c.Bool("ignore-paused"),
	}
	if c.Bool("detach") {
		return 0, e.ExecDetached(c.Context, r)
	}
	return e.Exec(c.Context, r)
}

// subCgroup is the cgroup to run in. A guest has cgroup v2, and so one at most.
func subCgroup(paths []string) (string, error) {
	switch {
	case len(paths) == 0:
		return "", nil
	case len(paths) > 1 || strings.Contains(paths[0], ":"):
		return "", fmt.Errorf("--cgroup %q: the guest has cgroup v2, name one path without a controller", paths)
	}
	return paths[0], nil
}

// execProcess is the process to run: that of --process, or the container's own
// from the bundle in dir, changed by the flags.
func execProcess(c *cli.Context, dir string) (*specs.Process, error) {
	if file := c.String("process"); file != "" {
		return bundle.LoadProcess(file)
	}
	p, err := bundle.LoadContainerProcess(dir)
	if err != nil {
		return nil, err
	}
	if p.Args = c.Args().Tail(); len(p.Args) == 0 {
		return nil, errors.New("exec args cannot be empty")
	}
	if cwd := c.String("cwd"); cwd != "" {
		p.Cwd = cwd
	}
	p.Env = append(p.Env, c.StringSlice("env")...)
	p.Terminal = c.Bool("tty")
	if c.IsSet("no-new-privs") {
		p.NoNewPrivileges = c.Bool("no-new-privs")
	}
	if c.IsSet("apparmor") {
		p.ApparmorProfile = c.String("apparmor")
	}
	addCapabilities(p, c.StringSlice("cap"))
	if err := setUser(&p.User, c.String("user"), c.Int64Slice("additional-gids")); err != nil {
		return nil, err
	}
	return p, bundle.ValidateProcess(p)
}

// addCapabilities adds to the sets that runc adds to.
func addCapabilities(p *specs.Process, caps []string) {
	if len(caps) == 0 {
		return
	}
	if p.Capabilities == nil {
		p.Capabilities = &specs.LinuxCapabilities{}
	}
	s := p.Capabilities
	s.Bounding = append(s.Bounding, caps...)
	s.Effective = append(s.Effective, caps...)
	s.Permitted = append(s.Permitted, caps...)
	// Ambient capabilities have to be inheritable.
	if s.Inheritable != nil {
		s.Ambient = append(s.Ambient, caps...)
	}
}

func setUser(u *specs.User, text string, groups []int64) error {
	for _, g := range groups {
		if g < 0 {
			return fmt.Errorf("additional-gids must be a positive number %d", g)
		}
		u.AdditionalGids = append(u.AdditionalGids, uint32(g))
	}
	if text == "" {
		return nil
	}
	user, group, hasGroup := strings.Cut(text, ":")
	n, err := strconv.ParseUint(user, 10, 32)
	if err != nil {
		return fmt.Errorf("bad uid: %w", err)
	}
	u.UID = uint32(n)
	if hasGroup {
		if n, err = strconv.ParseUint(group, 10, 32); err != nil {
			return fmt.Errorf("bad gid: %w", err)
		}
		u.GID = uint32(n)
	}
	return nil
}
