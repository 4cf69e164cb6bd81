// Package bundle reads an OCI bundle, checks it, and splits its configuration
// into what the host does and what the guest does.
//
// Only [Load] and [LoadProcess] touch files, and [Bundle.Split] asks for the size
// of shared memory; all else is pure.
package bundle

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/microvm/microvm/runtime/anchor"
)

// ConfigFile is the name of a bundle's configuration.
const ConfigFile = "config.json"

// Bundle is a bundle's directory and its valid configuration.
type Bundle struct {
	// Dir is absolute.
	Dir  string
	Spec *specs.Spec
	// inPod says that the machine is for several containers.
	inPod bool
	// joined are the namespaces that the container shares with its pod, or with
	// target; Spec has them no more.
	joined []specs.LinuxNamespaceType
	target int
	pod    *specs.LinuxResources
}

// Load reads and validates the bundle in dir. Its errors name the file, the
// field and what is wrong with it.
func Load(dir string) (*Bundle, error) { return LoadInPod(dir, Pod{}) }

// LoadInPod is Load for a container in the machine of a pod.
func LoadInPod(dir string, pod Pod) (*Bundle, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("find bundle: %w", err)
	}
	file := filepath.Join(dir, ConfigFile)
	spec := new(specs.Spec)
	if err := readJSON(file, spec); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, missing(dir, file)
		}
		return nil, err
	}
	b := &Bundle{Dir: dir, Spec: spec}
	b.makeOwnUser()
	b.inPod = pod.PID != 0 || PodID(spec.Annotations) != ""
	b.join(pod)
	err = Validate(spec)
	if err == nil {
		err = b.refusedInPod()
	}
	if err == nil && b.IsSandbox() {
		b.pod, err = podResources(spec.Annotations)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	// Relative ones are deprecated, and relative to the root (config.md, Mounts).
	for i := range spec.Mounts {
		spec.Mounts[i].Destination = filepath.Join("/", spec.Mounts[i].Destination)
	}
	spec.Mounts = append(spec.Mounts, pod.files(spec)...)
	return b, b.checkRoot(file)
}

func missing(dir, file string) error {
	if _, err := os.Stat(dir); err != nil {
		return fmt.Errorf("open bundle: %w: name its directory with --bundle", err)
	}
	return fmt.Errorf("JSON specification file %s not found: a bundle is a directory with a %s and a root file system; `spec` writes a first one", file, ConfigFile)
}

// Rootfs is the absolute path of the root file system.
func (b *Bundle) Rootfs() string { return b.path(b.Spec.Root.Path) }

// Shown is what there is to see of the container's mounts from the host: bind
// mounts, and as empty places the file systems that exist in the guest only.
func (b *Bundle) Shown() []anchor.Mount {
	var shown []anchor.Mount
	for _, m := range b.Spec.Mounts {
		switch {
		case IsBind(m):
			shown = append(shown, anchor.Mount{Destination: m.Destination, Source: b.path(m.Source), ReadOnly: readOnly(m.Options)})
		case m.Type == "tmpfs":
			shown = append(shown, anchor.Mount{Destination: m.Destination})
		}
	}
	return shown
}

// CgroupsPath is the place of the container's cgroup on the host, or "".
func (b *Bundle) CgroupsPath() string {
	if b.Spec.Linux == nil {
		return ""
	}
	return b.Spec.Linux.CgroupsPath
}

// Resources are the container's limits, or nil; those of a sandbox are its pod's.
func (b *Bundle) Resources() *specs.LinuxResources {
	if b.IsSandbox() {
		return b.pod
	}
	if b.Spec.Linux == nil {
		return nil
	}
	return b.Spec.Linux.Resources
}

// Namespace returns what the configuration says about a kind of namespace, or
// nil.
func (b *Bundle) Namespace(kind specs.LinuxNamespaceType) *specs.LinuxNamespace {
	if b.Spec.Linux == nil {
		return nil
	}
	for i, ns := range b.Spec.Linux.Namespaces {
		if ns.Type == kind {
			return &b.Spec.Linux.Namespaces[i]
		}
	}
	return nil
}

// BindSource is the path on the host of what is bound to a place in the
// container, or empty if that is no bind mount's.
func (b *Bundle) BindSource(destination string) string {
	for _, m := range slices.Backward(b.Spec.Mounts) {
		if IsBind(m) && filepath.Clean(m.Destination) == destination {
			return b.path(m.Source)
		}
	}
	return ""
}

// path resolves p against the bundle.
func (b *Bundle) path(p string) string {
	if filepath.IsAbs(p) {
		return filepath.Clean(p)
	}
	return filepath.Join(b.Dir, p)
}

func (b *Bundle) checkRoot(file string) error {
	st, err := os.Stat(b.Rootfs())
	if err != nil {
		return fmt.Errorf("%s: root.path: invalid rootfs: %w", file, err)
	}
	if !st.IsDir() {
		return fmt.Errorf("%s: root.path: invalid rootfs: %s is not a directory", file, b.Rootfs())
	}
	return nil
}

// LoadProcess reads a process from a JSON file, as for exec --process.
func LoadProcess(file string) (*specs.Process, error) {
	p := new(specs.Process)
	if err := readJSON(file, p); err != nil {
		return nil, err
	}
	if err := ValidateProcess(p); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return p, nil
}

// LoadContainerProcess reads only the process of the bundle in dir, whose root
// file system may have gone from the host since the container was made.
func LoadContainerProcess(dir string) (*specs.Process, error) {
	file := filepath.Join(dir, ConfigFile)
	var spec struct {
		Process *specs.Process `json:"process"`
	}
	if err := readJSON(file, &spec); err != nil {
		return nil, err
	}
	if spec.Process == nil {
		return nil, fmt.Errorf("%s: %w", file, invalid("process", "process property must not be empty"))
	}
	return spec.Process, nil
}

// maxConfig bounds what is read: seccomp profiles make configurations large,
// but not this large.
const maxConfig = 16 << 20

func readJSON(file string, v any) error {
	st, err := os.Stat(file)
	if err != nil {
		return err
	}
	if st.Size() > maxConfig {
		return fmt.Errorf("%s: %d bytes are more than the %d that a configuration may have", file, st.Size(), maxConfig)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s: %w", file, locate(data, err))
	}
	return nil
}

// locate adds line and column, or the field, to an error of encoding/json.
func locate(data []byte, err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("%s: %w", position(data, syntax.Offset), err)
	case errors.As(err, &kind):
		return fmt.Errorf("%s: %s: a JSON %s cannot be a %s", position(data, kind.Offset), kind.Field, kind.Value, kind.Type)
	}
	return err
}

func position(data []byte, offset int64) string {
	line, column := 1, 1
	for _, c := range data[:min(int(offset), len(data))] {
		column++
		if c == '\n' {
			line, column = line+1, 1
		}
	}
	return fmt.Sprintf("line %d, column %d", line, column)
}
