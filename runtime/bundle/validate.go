package bundle

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// invalid makes the error for a field.
func invalid(field, format string, args ...any) error {
	return fmt.Errorf("%s: %s", field, fmt.Sprintf(format, args...))
}

// Validate checks what can be checked without looking at the host. It also
// refuses what this runtime does not do, see Refused.
func Validate(spec *specs.Spec) error {
	if err := validateVersion(spec.Version); err != nil {
		return err
	}
	if spec.Process == nil {
		return invalid("process", "process property must not be empty: say which program to run")
	}
	if err := ValidateProcess(spec.Process); err != nil {
		return err
	}
	if spec.Root == nil || spec.Root.Path == "" {
		return invalid("root.path", "root must be specified: name the directory of the root file system")
	}
	if err := validateMounts(spec.Mounts); err != nil {
		return err
	}
	if err := validateNamespaces(spec.Linux); err != nil {
		return err
	}
	if err := validateHooks(spec.Hooks); err != nil {
		return err
	}
	return Refused(spec)
}

func validateVersion(v string) error {
	if v == "" {
		return invalid("ociVersion", "must be set, for example to %q", specs.Version)
	}
	major, _, ok := strings.Cut(v, ".")
	if !ok || major != "1" {
		return invalid("ociVersion", "%q is not supported, only 1.x is", v)
	}
	return nil
}

// ValidateProcess checks a container's or an exec's process.
func ValidateProcess(p *specs.Process) error {
	switch {
	case p.Cwd == "":
		return invalid("process.cwd", "Cwd property must not be empty: use / if in doubt")
	case !filepath.IsAbs(p.Cwd):
		return invalid("process.cwd", "Cwd must be an absolute path, not %q", p.Cwd)
	case len(p.Args) == 0:
		return invalid("process.args", "args must not be empty: say which program to run")
	}
	for i, e := range p.Env {
		if strings.ContainsRune(e, 0) {
			return invalid(fmt.Sprintf("process.env[%d]", i), "holds a zero byte")
		}
	}
	if !enginesProfile(p.ApparmorProfile) {
		return invalid("process.apparmorProfile", "%q is not supported, the guest has no AppArmor: leave it out, or set unconfined", p.ApparmorProfile)
	}
	return validateRlimits(p.Rlimits)
}

// enginesProfiles of AppArmor are those that engines give every container on a
// host which has it. None of them says more than that a container is not to
// reach the host, for which it has a machine. Podman adds its version to its own.
var enginesProfiles = []string{"", "unconfined", "docker-default", "cri-containerd.apparmor.d", "nerdctl-default", "crio-default"}

func enginesProfile(name string) bool {
	return slices.Contains(enginesProfiles, name) || strings.HasPrefix(name, "containers-default-")
}

// rlimits of getrlimit(2) on Linux.
var rlimits = []string{
	"AS", "CORE", "CPU", "DATA", "FSIZE", "LOCKS", "MEMLOCK", "MSGQUEUE", "NICE",
	"NOFILE", "NPROC", "RSS", "RTPRIO", "RTTIME", "SIGPENDING", "STACK",
}

func validateRlimits(limits []specs.POSIXRlimit) error {
	seen := map[string]bool{}
	for i, l := range limits {
		field := fmt.Sprintf("process.rlimits[%d]", i)
		name, ok := strings.CutPrefix(l.Type, "RLIMIT_")
		switch {
		case !ok || !slices.Contains(rlimits, name):
			return invalid(field, "wrong rlimit value: %s; see getrlimit(2) for the known ones", l.Type)
		case seen[name]:
			return invalid(field, "%s is there twice", l.Type)
		case l.Soft > l.Hard:
			return invalid(field, "%s: soft limit %d is over hard limit %d", l.Type, l.Soft, l.Hard)
		}
		seen[name] = true
	}
	return nil
}

func validateMounts(mounts []specs.Mount) error {
	for i, m := range mounts {
		if m.Destination == "" {
			return invalid(fmt.Sprintf("mounts[%d].destination", i), "must not be empty: say where in the container")
		}
	}
	return nil
}

// namespaces that a container may ask for.
var namespaces = []specs.LinuxNamespaceType{
	specs.PIDNamespace, specs.NetworkNamespace, specs.MountNamespace, specs.IPCNamespace,
	specs.UTSNamespace, specs.UserNamespace, specs.CgroupNamespace, specs.TimeNamespace,
}

func validateNamespaces(l *specs.Linux) error {
	if l == nil {
		return nil
	}
	seen := map[specs.LinuxNamespaceType]bool{}
	for i, ns := range l.Namespaces {
		field := fmt.Sprintf("linux.namespaces[%d]", i)
		switch {
		case !slices.Contains(namespaces, ns.Type):
			return invalid(field, "namespace %q does not exist", ns.Type)
		case seen[ns.Type]:
			return invalid(field, "malformed spec file: duplicated ns %q", ns.Type)
		case ns.Path != "" && ns.Type != specs.NetworkNamespace:
			return invalid(field, "the %s namespace %s is the host's, a container in a machine of its own cannot join it: leave the path out", ns.Type, ns.Path)
		}
		seen[ns.Type] = true
	}
	if seen[specs.UserNamespace] {
		return validateRoot(l)
	}
	return nil
}

// validateRoot wants somebody outside for the root of a new user namespace: it is
// who sets the container up.
func validateRoot(l *specs.Linux) error {
	for field, ids := range map[string][]specs.LinuxIDMapping{"linux.uidMappings": l.UIDMappings, "linux.gidMappings": l.GIDMappings} {
		if !slices.ContainsFunc(ids, func(m specs.LinuxIDMapping) bool { return m.ContainerID == 0 && m.Size > 0 }) {
			return invalid(field, "no range has the id 0 of the user namespace, its root: map it")
		}
	}
	return nil
}
