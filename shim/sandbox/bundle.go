package sandbox

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/microvm/microvm/agent/api"
	"github.com/microvm/microvm/runtime/bundle"
	"github.com/microvm/microvm/runtime/state"
)

// configType is the end of the type of a pod's configuration; what is before it
// differs between versions.
const configType = "runtime.v1.PodSandboxConfig"

// emptyRoot is the directory in the bundle that is the root file system of the
// pod's sandbox.
const emptyRoot = "empty"

// request is what containerd says of a pod.
type request struct {
	id, netns   string
	config      *PodSandboxConfig // empty if the client is not CRI
	annotations map[string]string
}

// podConfig unpacks a pod's configuration. Clients other than CRI have options of
// their own, or none.
func podConfig(options *anypb.Any) (*PodSandboxConfig, error) {
	c := new(PodSandboxConfig)
	if !strings.HasSuffix(options.GetTypeUrl(), configType) {
		return c, nil
	}
	if err := api.Unpack(options, c); err != nil {
		return nil, err
	}
	return c, checkUserNamespace(c)
}

// userNamespace is nil for a pod that has none.
func (c *PodSandboxConfig) userNamespace() *UserNamespace {
	userns := c.GetLinux().GetSecurityContext().GetNamespaceOptions().GetUsernsOptions()
	if userns.GetMode() == NamespaceMode_NODE {
		return nil
	}
	return userns
}

func checkUserNamespace(c *PodSandboxConfig) error {
	userns := c.userNamespace()
	switch {
	case userns == nil:
	case userns.GetMode() != NamespaceMode_POD:
		return fmt.Errorf("a pod's user namespace is the pod's (%v) or the node's (%v), not %v", NamespaceMode_POD, NamespaceMode_NODE, userns.GetMode())
	case len(userns.GetUids()) != 1 || len(userns.GetGids()) != 1:
		return errors.New("a pod's user namespace needs one range of uids and one of gids")
	}
	return nil
}

// writeBundle makes dir the bundle of a sandbox, as CRI itself makes one for a pod
// with a container for its sandbox. Of the pod's own annotations those of r are in
// it: containerd does not say which of them its administrator lets through. A client
// may have left a configuration there, which has a say in what is the pod's.
func writeBundle(dir string, r request) error {
	file := filepath.Join(dir, bundle.ConfigFile)
	given, err := readSpec(file)
	if err != nil {
		return err
	}
	spec := specOf(r, given)
	if err := errors.Join(makeRoot(filepath.Join(dir, emptyRoot), spec.Linux), writeFiles(dir, r.config)); err != nil {
		return fmt.Errorf("write bundle: %w", err)
	}
	data, err := json.Marshal(spec)
	if err != nil {
		return fmt.Errorf("write bundle: %w", err)
	}
	// A part of it would be taken for a client's.
	if err := state.WriteFile(file, data); err != nil {
		return fmt.Errorf("write bundle: %w", err)
	}
	return nil
}

// makeRoot makes an empty directory of the root of the pod's user namespace, who
// makes mount points there.
func makeRoot(dir string, linux *specs.Linux) error {
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if len(linux.UIDMappings) == 0 {
		return nil
	}
	return os.Chown(dir, int(linux.UIDMappings[0].HostID), int(linux.GIDMappings[0].HostID))
}

// readSpec returns an empty configuration when there is none.
func readSpec(file string) (*specs.Spec, error) {
	spec := new(specs.Spec)
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return spec, nil
	}
	if err == nil {
		err = json.Unmarshal(data, spec)
	}
	if err != nil {
		return nil, fmt.Errorf("read bundle: %s: %w", file, err)
	}
	return spec, nil
}

func specOf(r request, given *specs.Spec) *specs.Spec {
	return &specs.Spec{
		Version:     specs.Version,
		Hostname:    cmp.Or(r.config.GetHostname(), given.Hostname),
		Root:        &specs.Root{Path: emptyRoot},
		Process:     &specs.Process{Cwd: "/", Args: []string{"/pause"}, NoNewPrivileges: true, Capabilities: &specs.LinuxCapabilities{}},
		Mounts:      []specs.Mount{{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}}},
		Annotations: annotationsOf(r, given.Annotations),
		Linux:       linuxOf(r, given.Linux),
	}
}

func linuxOf(r request, given *specs.Linux) *specs.Linux {
	if given == nil {
		given = &specs.Linux{}
	}
	linux := &specs.Linux{
		CgroupsPath: cmp.Or(cgroupsPath(r.config.GetLinux().GetCgroupParent(), r.id), given.CgroupsPath),
		Sysctl:      map[string]string{},
		Namespaces:  ownNamespaces(r.config.GetLinux().GetSecurityContext().GetNamespaceOptions()),
	}
	maps.Copy(linux.Sysctl, given.Sysctl)
	maps.Copy(linux.Sysctl, r.config.GetLinux().GetSysctls())
	network := slices.DeleteFunc(slices.Clone(given.Namespaces), func(ns specs.LinuxNamespace) bool { return ns.Type != specs.NetworkNamespace })
	if r.netns != "" {
		network = []specs.LinuxNamespace{{Type: specs.NetworkNamespace, Path: r.netns}}
	}
	linux.Namespaces = append(linux.Namespaces, network...)
	if userns := r.config.userNamespace(); userns != nil {
		linux.Namespaces = append(linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
		linux.UIDMappings, linux.GIDMappings = mappings(userns.GetUids()), mappings(userns.GetGids())
	}
	return linux
}

// ownNamespaces are those of the pod; what it wants to share with the host is not
// among them.
func ownNamespaces(o *NamespaceOption) []specs.LinuxNamespace {
	all := []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.UTSNamespace}}
	if o.GetPid() != NamespaceMode_NODE {
		all = append(all, specs.LinuxNamespace{Type: specs.PIDNamespace})
	}
	if o.GetIpc() != NamespaceMode_NODE {
		all = append(all, specs.LinuxNamespace{Type: specs.IPCNamespace})
	}
	return all
}

func mappings(ranges []*IDMapping) (all []specs.LinuxIDMapping) {
	for _, m := range ranges {
		all = append(all, specs.LinuxIDMapping{ContainerID: m.GetContainerId(), HostID: m.GetHostId(), Size: m.GetLength()})
	}
	return all
}

func annotationsOf(r request, given map[string]string) map[string]string {
	all := map[string]string{}
	maps.Copy(all, given)
	maps.Copy(all, r.annotations)
	maps.Copy(all, bundle.SandboxAnnotations(r.id, podSize(r.config.GetLinux().GetResources())))
	return all
}

// podSize is nil if nothing is said of it.
func podSize(r *LinuxContainerResources) *bundle.PodSize {
	if r == nil {
		return nil
	}
	return &bundle.PodSize{Period: r.GetCpuPeriod(), Quota: r.GetCpuQuota(), Shares: r.GetCpuShares(), Memory: r.GetMemoryLimitInBytes()}
}

// cgroupsPath is the place of the pod's machine below parent, which may be a
// slice of systemd.
func cgroupsPath(parent, id string) string {
	switch base := path.Base(parent); {
	case parent == "":
		return ""
	case strings.HasSuffix(base, ".slice"):
		return base + ":cri-containerd:" + id
	}
	return path.Join(parent, id)
}
