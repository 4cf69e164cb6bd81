package main

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/containerd/cgroups/v3/cgroup2/stats"
	"github.com/urfave/cli/v2"

	"github.com/microvm/microvm/runtime/container"
)

func eventsCommand() *cli.Command {
	return &cli.Command{
		Name:      "events",
		Usage:     "display container events such as OOM notifications, cpu, memory, and IO usage statistics",
		ArgsUsage: idUsage,
		Flags: []cli.Flag{
			&cli.DurationFlag{Name: "interval", Value: 5 * time.Second, Usage: "set the stats collection interval"},
			&cli.BoolFlag{Name: "stats", Usage: "display the container's stats then exit"},
		},
		Before:       arguments(1, 1),
		OnUsageError: badFlag,
		Action:       events,
	}
}

// event is a line of the output.
type event struct {
	Type string `json:"type"`
	ID   string `json:"id"`
	Data any    `json:"data,omitempty"`
}

func events(c *cli.Context) error {
	name, err := id(c)
	if err != nil {
		return err
	}
	interval := c.Duration("interval")
	if interval <= 0 {
		return errors.New("duration interval must be greater than 0")
	}
	out := json.NewEncoder(c.App.Writer)
	show := func(m *stats.Metrics) error {
		return out.Encode(event{Type: "stats", ID: name, Data: newStatistics(m)})
	}
	if c.Bool("stats") {
		m, err := reader(c).Stats(c.Context, name)
		if err != nil {
			return err
		}
		return show(m)
	}
	return reader(c).Watch(c.Context, name, interval, container.Observer{
		Stats: show,
		OOM:   func() error { return out.Encode(event{Type: "oom", ID: name}) },
	})
}
