package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/docker/go-units"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/sirupsen/logrus"
	"github.com/urfave/cli/v2"
)

func updateCommand() *cli.Command {
	return &cli.Command{
		Name:         "update",
		Usage:        "update container resource constraints",
		ArgsUsage:    idUsage,
		Flags:        updateFlags(),
		Before:       arguments(1, 1),
		OnUsageError: badFlag,
		Action: func(c *cli.Context) error {
			name, err := id(c)
			if err != nil {
				return err
			}
			r, err := updatedResources(c)
			if err != nil {
				return err
			}
			return reader(c).Update(c.Context, name, r)
		},
	}
}

func updateFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "resources", Aliases: []string{"r"}, Usage: "path to the file containing the resources to update, as linux.resources in the runtime spec, or '-' to read from the standard input; all other options are ignored then"},
		&cli.IntFlag{Name: "blkio-weight", Usage: "per cgroup weight, range is from 10 to 1000"},
		&cli.StringFlag{Name: "cpu-period", Usage: "CPU CFS period to be used for hardcapping (in usecs), 0 to use system default"},
		&cli.StringFlag{Name: "cpu-quota", Usage: "CPU CFS hardcap limit (in usecs), allowed cpu time in a given period"},
		&cli.StringFlag{Name: "cpu-burst", Usage: "CPU CFS hardcap burst limit (in usecs)"},
		&cli.StringFlag{Name: "cpu-share", Usage: "CPU shares (relative weight vs. other containers)"},
		&cli.StringFlag{Name: "cpu-rt-period", Usage: "refused: the guest's kernel has no group scheduling of real-time processes"},
		&cli.StringFlag{Name: "cpu-rt-runtime", Usage: "refused likewise"},
		&cli.StringFlag{Name: "cpuset-cpus", Usage: "CPU(s) of the host to use"},
		&cli.StringFlag{Name: "cpuset-mems", Usage: "memory node(s) of the host to use"},
		&cli.StringFlag{Name: "cpu-idle", Usage: "set cgroup SCHED_IDLE or not, 0: default behavior, 1: SCHED_IDLE"},
		&cli.StringFlag{Name: "memory", Usage: "memory limit (in bytes)"},
		&cli.StringFlag{Name: "memory-reservation", Usage: "memory reservation or soft limit (in bytes)"},
		&cli.StringFlag{Name: "memory-swap", Usage: "total memory usage (memory + swap); set '-1' to enable unlimited swap"},
		&cli.StringFlag{Name: "kernel-memory", Hidden: true, Usage: "ignored"},
		&cli.StringFlag{Name: "kernel-memory-tcp", Hidden: true, Usage: "ignored"},
		&cli.IntFlag{Name: "pids-limit", Usage: "maximum number of pids allowed in the container"},
		&cli.StringFlag{Name: "l3-cache-schema", Usage: "refused: a guest has no access to the CPU's resource control"},
		&cli.StringFlag{Name: "mem-bw-schema", Usage: "refused likewise"},
	}
}

// updatedResources is what the file or the flags say.
func updatedResources(c *cli.Context) (*specs.LinuxResources, error) {
	for _, name := range []string{"l3-cache-schema", "mem-bw-schema", "cpu-rt-period", "cpu-rt-runtime"} {
		if c.IsSet(name) {
			return nil, fmt.Errorf("--%s: the guest's kernel does not offer it", name)
		}
	}
	for _, name := range []string{"kernel-memory", "kernel-memory-tcp"} {
		if c.IsSet(name) {
			logrus.Warn("Kernel memory settings are ignored and will be removed")
		}
	}
	if file := c.String("resources"); file != "" {
		return readResources(file)
	}
	return flaggedResources(c)
}

func readResources(file string) (*specs.LinuxResources, error) {
	in := io.Reader(os.Stdin)
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	r := new(specs.LinuxResources)
	if err := json.NewDecoder(in).Decode(r); err != nil {
		return nil, fmt.Errorf("read resources from %s: %w", file, err)
	}
	return r, nil
}

func flaggedResources(c *cli.Context) (*specs.LinuxResources, error) {
	r := &specs.LinuxResources{
		Memory: &specs.LinuxMemory{}, BlockIO: &specs.LinuxBlockIO{}, Pids: &specs.LinuxPids{},
		CPU: &specs.LinuxCPU{Cpus: c.String("cpuset-cpus"), Mems: c.String("cpuset-mems")},
	}
	if n := c.Int("blkio-weight"); n != 0 {
		weight := uint16(min(max(n, 0), 1<<16-1))
		r.BlockIO.Weight = &weight
	}
	if c.IsSet("pids-limit") {
		limit := int64(c.Int("pids-limit"))
		r.Pids.Limit = &limit
	}
	for name, set := range map[string]func(string) error{
		"cpu-period": unsigned(&r.CPU.Period), "cpu-burst": unsigned(&r.CPU.Burst), "cpu-share": unsigned(&r.CPU.Shares),
		"cpu-quota": signed(&r.CPU.Quota), "cpu-idle": signed(&r.CPU.Idle),
		"memory": size(&r.Memory.Limit), "memory-swap": size(&r.Memory.Swap), "memory-reservation": size(&r.Memory.Reservation),
	} {
		if text := c.String(name); text != "" {
			if err := set(text); err != nil {
				return nil, fmt.Errorf("invalid value for %s: %w", name, err)
			}
		}
	}
	// A swap limit without a memory limit makes no sense to the kernel.
	if m := r.Memory; m.Limit != nil && *m.Limit == -1 && m.Swap == nil {
		m.Swap = new(int64)
	}
	if r.CPU.Idle != nil && r.CPU.Shares == nil {
		r.CPU.Shares = new(uint64)
	}
	return r, nil
}

func unsigned(to **uint64) func(string) error {
	return func(text string) error {
		n, err := strconv.ParseUint(text, 10, 64)
		*to = &n
		return err
	}
}

func signed(to **int64) func(string) error {
	return func(text string) error {
		n, err := strconv.ParseInt(text, 10, 64)
		*to = &n
		return err
	}
}

// size reads a number of bytes with a unit; -1 is no limit.
func size(to **int64) func(string) error {
	return func(text string) error {
		n := int64(-1)
		var err error
		if text != "-1" {
			n, err = units.RAMInBytes(text)
		}
		*to = &n
		return err
	}
}
