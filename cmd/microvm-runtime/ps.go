package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/urfave/cli/v2"

	"github.com/microvm/microvm/agent/api"
	"github.com/microvm/microvm/runtime/bundle"
	"github.com/microvm/microvm/runtime/container"
)

func psCommand() *cli.Command {
	return &cli.Command{
		Name:         "ps",
		Usage:        "ps displays the processes running inside a container",
		ArgsUsage:    "<container-id> [ps options]",
		Flags:        []cli.Flag{&cli.StringFlag{Name: "format", Aliases: []string{"f"}, Value: "table", Usage: formatUsage}},
		Before:       arguments(1, -1),
		OnUsageError: badFlag,
		Action:       ps,
	}
}

func ps(c *cli.Context) error {
	name, err := id(c)
	if err != nil {
		return err
	}
	options := c.Args().Tail()
	if len(options) > 0 && !slices.Equal(options, []string{"-ef"}) && c.String("format") == "table" {
		return runPS(c, name, options)
	}
	all, err := reader(c).Processes(c.Context, name)
	if err != nil {
		return err
	}
	switch c.String("format") {
	case "table":
		return writeProcesses(c.App.Writer, all, time.Now())
	case "json":
		return writePIDs(c, name)
	}
	return errors.New("invalid format option")
}

// runPS lets the container's own ps answer: that of the host can't see the
// processes, and one that can would have to be in every guest.
func runPS(c *cli.Context, name string, options []string) error {
	e, err := newEngine(c)
	if err != nil {
		return err
	}
	dir, err := e.Bundle(name)
	if err != nil {
		return err
	}
	p, err := bundle.LoadContainerProcess(dir)
	if err != nil {
		return err
	}
	p.Args, p.Terminal, p.User = append([]string{"ps"}, options...), false, specs.User{}
	code, err := e.Exec(c.Context, container.ExecRequest{ID: name, Process: p})
	if err != nil {
		return fmt.Errorf("ps options %q are for the container's own ps: %w", options, err)
	}
	return exitWith(code)
}

// writePIDs prints the pids of the host that stand for the container, for tools
// that look them up there: the guest's numbers would be those of strangers.
func writePIDs(c *cli.Context, name string) error {
	info, err := reader(c).State(name)
	if err != nil {
		return err
	}
	pids := []int{}
	if info.PID != 0 {
		pids = append(pids, info.PID)
	}
	return json.NewEncoder(c.App.Writer).Encode(pids)
}

// What is printed of a guest's words at most, in bytes.
const (
	longestTTY     = 32
	longestCommand = 128 << 10 // of an argument, in Linux
)

// writeProcesses prints what `ps -ef` prints in the guest.
func writeProcesses(w io.Writer, all []*api.Process, now time.Time) error {
	const row = "%-8s %7s %7s  0 %-5s %-8s %8s %s\n"
	_, err := fmt.Fprintf(w, "%-8s %7s %7s  C %-5s %-8s %8s %s\n", "UID", "PID", "PPID", "STIME", "TTY", "TIME", "CMD")
	for _, p := range all {
		if err == nil {
			_, err = fmt.Fprintf(w, row, owner(p.GetUid()), fmt.Sprint(p.GetPid()), fmt.Sprint(p.GetPpid()),
				startTime(time.Unix(0, p.GetStartedUnixNanos()), now), api.Printable(p.GetTty(), longestTTY), cpuTime(time.Duration(p.GetCpuNanos())), api.Printable(p.GetCommand(), longestCommand))
		}
	}
	return err
}

// startTime is the column STIME: the time today, the day before that.
func startTime(t, now time.Time) string {
	switch {
	case now.Sub(t) < 24*time.Hour:
		return t.Format("15:04")
	case t.Year() == now.Year():
		return t.Format("Jan02")
	}
	return t.Format("2006")
}

func cpuTime(d time.Duration) string {
	s := int64(d.Seconds())
	return fmt.Sprintf("%02d:%02d:%02d", s/3600, s/60%60, s%60)
}
