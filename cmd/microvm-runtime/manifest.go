package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	hostcheck "github.com/microvm/microvm/runtime/check"
	"github.com/microvm/microvm/runtime/container"
	"github.com/microvm/microvm/shim/deploy"
)

func manifestCommand() *cli.Command {
	return &cli.Command{
		Name:      "manifest",
		Usage:     "print a file that tells Kubernetes or containerd of the runtime",
		ArgsUsage: "<" + strings.Join(deploy.Names(), "|") + ">",
		Flags: []cli.Flag{
			&cli.Uint64Flag{Name: "memory", Value: 1024, Usage: "limit of the largest `pod` in MiB, which the overhead of the runtimeclass is meant for"},
			&cli.Uint64Flag{Name: "cpu", Usage: "`thousandths` of a processor that each pod of the runtimeclass gets, and is counted for, beyond its own"},
			&cli.StringFlag{Name: "nodes", Usage: "`label` (KEY=VALUE) of the nodes that pods of the runtimeclass may be on; without it, all"},
		},
		Before:       arguments(1, 1),
		OnUsageError: badFlag,
		Action: func(c *cli.Context) error {
			kind, err := hostsMachine(c)
			if err != nil {
				return err
			}
			limit := c.Uint64("memory")
			if limit == 0 || limit > 1<<30 {
				return fmt.Errorf("--memory: %d MiB is not the limit of a pod", limit)
			}
			v := deploy.Values{Memory: container.Overhead(kind, limit), CPU: c.Uint64("cpu")}
			if c.IsSet("nodes") {
				if v.Nodes, err = deploy.ParseLabel(c.String("nodes")); err != nil {
					return fmt.Errorf("--nodes: %w", err)
				}
			}
			return deploy.Write(c.App.Writer, c.Args().First(), v)
		},
	}
}

// hostsMachine is the kind of machine that this host uses.
func hostsMachine(c *cli.Context) (string, error) {
	cfg, machine, err := loadConfig(c)
	if err != nil {
		return "", err
	}
	exe, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find own program: %w", err)
	}
	parts := cfg.Locate(filepath.Dir(exe))
	return hostcheck.Decide(hostcheck.ProbeMachine(parts), cmp.Or(machine, cfg.Machine)).Machine, nil
}
