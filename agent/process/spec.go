package process

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/specconv"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// defaultFiles is the soft limit on open files for processes whose spec sets
// none; the hard one is the agent's own.
const defaultFiles = 1024

// checkSpec refuses what libcontainer would not, or too late.
func checkSpec(id string, spec *specs.Spec) error {
	if id == "" || id == "." || id == ".." || strings.ContainsRune(id, '/') {
		return fail(ErrInvalid, "%w: %q", libcontainer.ErrInvalidID, id)
	}
	return checkProcess(spec.Process)
}

// newConfig translates a container's spec for libcontainer. The container's
// cgroup in the guest is named after it, whatever the spec says. bundle is for
// hooks.
func newConfig(id, bundle string, spec *specs.Spec) (*configs.Config, error) {
	if spec.Linux == nil {
		spec.Linux = &specs.Linux{}
	}
	spec.Linux.CgroupsPath = "/" + id
	spec.Linux.Seccomp = withInitCalls(spec.Linux.Seccomp)
	config, err := specconv.CreateLibcontainerConfig(&specconv.CreateOpts{CgroupName: id, Spec: spec})
	if err != nil {
		return nil, fail(ErrInvalid, "%w", err)
	}
	setBundle(config, bundle)
	return config, nil
}

// setBundle tells hooks where the bundle is: on the host. Unless told otherwise,
// libcontainer believes that it is the working directory.
func setBundle(config *configs.Config, bundle string) {
	const label = "bundle="
	for i, l := range config.Labels {
		if strings.HasPrefix(l, label) {
			config.Labels[i] = label + bundle
		}
	}
}

func checkProcess(p *specs.Process) error {
	switch {
	case p == nil:
		return fail(ErrInvalid, "process property must not be empty")
	case len(p.Args) == 0:
		return fail(ErrInvalid, "args must not be empty")
	case !path.IsAbs(p.Cwd):
		return fail(ErrInvalid, "cwd %q must be an absolute path", p.Cwd)
	}
	return nil
}

// newLibProcess translates a process, all but its streams.
func newLibProcess(p *specs.Process, init bool) (*libcontainer.Process, error) {
	limits, err := newRlimits(p.Rlimits)
	if err != nil {
		return nil, err
	}
	affinity, err := configs.ConvertCPUAffinity(p.ExecCPUAffinity)
	if err != nil {
		return nil, fail(ErrInvalid, "%w", err)
	}
	lp := &libcontainer.Process{
		Init:             init,
		Args:             p.Args,
		Env:              p.Env,
		UID:              int(p.User.UID),
		GID:              int(p.User.GID),
		AdditionalGroups: newGroups(p.User.AdditionalGids),
		Cwd:              p.Cwd,
		Label:            p.SelinuxLabel,
		AppArmorProfile:  p.ApparmorProfile,
		NoNewPrivileges:  &p.NoNewPrivileges,
		Capabilities:     newCapabilities(p.Capabilities),
		Rlimits:          limits,
		Scheduler:        p.Scheduler,
		IOPriority:       p.IOPriority,
		CPUAffinity:      affinity,
		// Without a level, each of its steps is reported and thrown away here.
		LogLevel: strconv.Itoa(int(logrus.GetLevel())),
	}
	if p.ConsoleSize != nil {
		lp.ConsoleWidth, lp.ConsoleHeight = uint16(p.ConsoleSize.Width), uint16(p.ConsoleSize.Height)
	}
	return lp, nil
}

func newGroups(gids []uint32) []int {
	var groups []int
	for _, gid := range gids {
		groups = append(groups, int(gid))
	}
	return groups
}

func newCapabilities(c *specs.LinuxCapabilities) *configs.Capabilities {
	if c == nil {
		return nil
	}
	return &configs.Capabilities{
		Bounding:    c.Bounding,
		Effective:   c.Effective,
		Inheritable: c.Inheritable,
		Permitted:   c.Permitted,
		Ambient:     c.Ambient,
	}
}

// rlimits are the resources of setrlimit(2) by their name in the spec.
var rlimits = map[string]int{
	"RLIMIT_AS":         unix.RLIMIT_AS,
	"RLIMIT_CORE":       unix.RLIMIT_CORE,
	"RLIMIT_CPU":        unix.RLIMIT_CPU,
	"RLIMIT_DATA":       unix.RLIMIT_DATA,
	"RLIMIT_FSIZE":      unix.RLIMIT_FSIZE,
	"RLIMIT_LOCKS":      unix.RLIMIT_LOCKS,
	"RLIMIT_MEMLOCK":    unix.RLIMIT_MEMLOCK,
	"RLIMIT_MSGQUEUE":   unix.RLIMIT_MSGQUEUE,
	"RLIMIT_NICE":       unix.RLIMIT_NICE,
	"RLIMIT_NOFILE":     unix.RLIMIT_NOFILE,
	"RLIMIT_NPROC":      unix.RLIMIT_NPROC,
	"RLIMIT_RSS":        unix.RLIMIT_RSS,
	"RLIMIT_RTPRIO":     unix.RLIMIT_RTPRIO,
	"RLIMIT_RTTIME":     unix.RLIMIT_RTTIME,
	"RLIMIT_SIGPENDING": unix.RLIMIT_SIGPENDING,
	"RLIMIT_STACK":      unix.RLIMIT_STACK,
}

func newRlimits(limits []specs.POSIXRlimit) ([]configs.Rlimit, error) {
	var own unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &own); err != nil {
		return nil, fmt.Errorf("get limit on open files: %w", err)
	}
	out := []configs.Rlimit{{Type: unix.RLIMIT_NOFILE, Soft: min(defaultFiles, own.Max), Hard: own.Max}}
	for _, l := range limits {
		resource, ok := rlimits[strings.ToUpper(l.Type)]
		if !ok {
			return nil, fail(ErrInvalid, "wrong rlimit value: %s", l.Type)
		}
		limit := configs.Rlimit{Type: resource, Soft: l.Soft, Hard: l.Hard}
		if resource == unix.RLIMIT_NOFILE {
			out[0] = limit
			continue
		}
		out = append(out, limit)
	}
	return out, nil
}
