package process

import (
	"path"
	"strconv"
	"strings"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/specconv"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/sirupsen/logrus"
)

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
