package bundle

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/agent/api"
)

// splitMounts rewrites the guest's mounts and returns which destinations are
// files.
func (p *Plan) splitMounts(b *Bundle, stat Stat) (files map[string]bool, err error) {
	files = map[string]bool{}
	p.Guest.Mounts = slices.Clone(b.Spec.Mounts)
	for i := range p.Guest.Mounts {
		m := &p.Guest.Mounts[i]
		field := "source"
		m.Destination = inRoot(b, m.Destination)
		switch {
		case IsBind(*m):
			files[m.Destination], err = p.splitBind(b, i, m, stat)
		case slices.Contains(diskTypes, m.Type):
			err = p.splitDisk(b, i, m, stat)
		case m.Type == overlayType:
			field = "options"
			err = p.splitOverlay(b, i, m, stat)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: mounts[%d].%s: %s: %w", filepath.Join(b.Dir, ConfigFile), i, field, m.Destination, err)
		}
	}
	return files, nil
}

// inRoot is path without the root file system's before it, if it begins so.
func inRoot(b *Bundle, path string) string {
	if rest, ok := strings.CutPrefix(path, b.Rootfs()+"/"); ok {
		return "/" + rest
	}
	return path
}

// mounted is the source of mount i in the container's own root, if the mounts
// before it have made it what it is: only the guest has that. Otherwise it is "".
func (p *Plan) mounted(b *Bundle, i int, source string) string {
	own := inRoot(b, source)
	if own == source || !slices.ContainsFunc(p.Guest.Mounts[:i], func(m specs.Mount) bool {
		at := filepath.Clean(m.Destination)
		return within(at, own) || within(own, at)
	}) {
		return ""
	}
	return own
}

// splitBind makes m, mount number i, a bind of an export or of what the guest
// has of its own. It tells whether m is of a file.
func (p *Plan) splitBind(b *Bundle, i int, m *specs.Mount, stat Stat) (file bool, err error) {
	source := b.path(m.Source)
	if own := p.mounted(b, i, source); own != "" {
		p.dropData(m)
		m.Source = guestPath(RootExport) + own
		return false, nil
	}
	if p.splitSharedMemory(m, source) {
		return false, nil
	}
	if yes, err := p.splitMemory(b, m, source); yes || err != nil {
		return false, err
	}
	p.dropData(m)
	st, err := stat(source)
	if err != nil {
		return false, err
	}
	own, err := guestsOwn(source, st)
	if err != nil {
		return false, err
	}
	if own == "" {
		e := Export{
			Name: fmt.Sprintf("mount%d", i), Path: source, ReadOnly: readOnly(m.Options),
			Submounts: slices.Contains(m.Options, "rbind"), Follow: follows(m.Options), OneDevice: mapped(m), Destination: m.Destination,
		}
		if keepsMountsWritable(&e, m.Options) {
			e.WritableMounts = true
			m.Options = withoutReadOnly(m.Options) // the guest has one mount of all
		}
		p.Exports = append(p.Exports, e)
		m.Source, m.Options = guestPath(e.Name), append(optionsOf(source), m.Options...)
		return !st.IsDir(), nil
	}
	m.Source = own
	if own == cgroupDir && hasNamespace(b.Spec.Linux, specs.CgroupNamespace) {
		m.Type, m.Source, m.Options = "cgroup", "cgroup", withoutBind(m.Options)
	}
	// With a user namespace, /sys is how a container gets one that has no network
	// namespace.
	inPlace := source == m.Destination && hasNamespace(b.Spec.Linux, specs.UserNamespace)
	if st.IsDir() && !inPlace {
		p.notice("mount %s: %s is of the guest's kernel, not of the host's", m.Destination, source)
	}
	return !st.IsDir(), nil
}

// mapped tells whether the guest's kernel is to map ids of m.
func mapped(m *specs.Mount) bool {
	return len(m.UIDMappings) > 0 || slices.Contains(m.Options, "idmap") || slices.Contains(m.Options, "ridmap")
}

// follows tells whether later mounts of the host are to be seen.
func follows(options []string) (yes bool) {
	for _, o := range options {
		switch o {
		case "slave", "rslave", "shared", "rshared":
			yes = true
		case "private", "rprivate", "unbindable", "runbindable":
			yes = false
		}
	}
	return yes
}

// splitDisk makes m, mount number i, one of a disk of the guest. The host needs
// no loop device for a file.
func (p *Plan) splitDisk(b *Bundle, i int, m *specs.Mount, stat Stat) error {
	options := diskOptions(m.Type, m.Options)
	source, err := p.addDisk(fmt.Sprintf("mount%d", i), b.path(m.Source), m.Type, readOnly(options), stat)
	if err == nil {
		m.Source, m.Options = source, options
	}
	return err
}

// addDisk makes the file or block device at path, on which is a file system of
// type kind, a disk of the guest, and returns the source of its mount there.
func (p *Plan) addDisk(serial, path, kind string, ro bool, stat Stat) (source string, err error) {
	st, err := stat(path)
	if err != nil {
		return "", err
	}
	if !st.Mode().IsRegular() && (st.Mode()&fs.ModeDevice == 0 || st.Mode()&fs.ModeCharDevice != 0) {
		return "", fmt.Errorf("%s is neither a file nor a block device with a file system of type %s", path, kind)
	}
	p.Disks = append(p.Disks, Disk{Serial: serial, Path: path, ReadOnly: ro})
	return api.DisksDir + "/" + serial, nil
}

// diskOptions are those of the mount of a disk, which needs no loop device. An
// erofs is read-only, or the kernel would open the disk to write, which is refused.
func diskOptions(kind string, options []string) []string {
	erofs := kind == "erofs"
	options = slices.DeleteFunc(slices.Clone(options), func(o string) bool {
		return o == "loop" || erofs && (o == "rw" || o == "ro")
	})
	if erofs {
		options = append(options, "ro")
	}
	return options
}

// dropData leaves out of a bind mount the options that only the file system
// behind it could take when it was mounted: they have no effect, and
// libcontainer refuses them.
func (p *Plan) dropData(m *specs.Mount) {
	var kept, dropped []string
	for _, o := range m.Options {
		if o == "idmap" || o == "ridmap" || slices.Contains(MountOptions(), o) {
			kept = append(kept, o)
		} else {
			dropped = append(dropped, o)
		}
	}
	if len(dropped) > 0 {
		p.notice("mount %s: %s: without effect on a bind mount", m.Destination, strings.Join(dropped, ","))
	}
	m.Options = kept
}

// inherited are the options of a mount of the host that a bind of it keeps, by
// their flags in statfs(2).
var inherited = []struct {
	flag   int64
	option string
}{{unix.MS_RDONLY, "ro"}, {unix.MS_NOSUID, "nosuid"}, {unix.MS_NODEV, "nodev"}, {unix.MS_NOEXEC, "noexec"}}

// optionsOf are those of the mount that path is in. Later options may undo all
// but "ro", which the host does not let anybody undo.
func optionsOf(path string) (options []string) {
	var st unix.Statfs_t
	if unix.Statfs(path, &st) != nil {
		return nil
	}
	for _, i := range inherited {
		if st.Flags&i.flag != 0 {
			options = append(options, i.option)
		}
	}
	return options
}

func (p *Plan) notice(format string, args ...any) {
	p.Notices = append(p.Notices, fmt.Sprintf(format, args...))
}

func hasNamespace(l *specs.Linux, kind specs.LinuxNamespaceType) bool {
	return l != nil && slices.ContainsFunc(l.Namespaces, func(ns specs.LinuxNamespace) bool { return ns.Type == kind })
}

func withoutBind(options []string) []string {
	return slices.DeleteFunc(slices.Clone(options), func(o string) bool { return o == "bind" || o == "rbind" })
}

const (
	sharedMemory       = "/dev/shm"
	sharedMemorySource = "shm"
	cgroupDir          = "/sys/fs/cgroup"
)

// splitSharedMemory gives the guest a tmpfs of its own where an engine has
// prepared one for POSIX shared memory on the host: memory that is mapped
// through the file server is not shared between processes as they expect.
func (p *Plan) splitSharedMemory(m *specs.Mount, source string) bool {
	var st unix.Statfs_t
	if filepath.Clean(m.Destination) != sharedMemory || unix.Statfs(source, &st) != nil || st.Type != unix.TMPFS_MAGIC {
		return false
	}
	options := append(withoutBind(m.Options), "mode=1777")
	if st.Blocks > 0 {
		options = append(options, "size="+strconv.FormatUint(st.Blocks*uint64(st.Bsize), 10))
	}
	m.Type, m.Source, m.Options = "tmpfs", sharedMemorySource, options
	m.UIDMappings, m.GIDMappings = nil, nil
	p.sharableMemory = true
	return true
}

// sharesMemory tells whether the container's POSIX shared memory is the machine's
// own: that of all containers of a pod is, of those that join the IPC namespace of
// another, and of one whose engine has prepared some for others to join.
func (p *Plan) sharesMemory(b *Bundle) bool {
	return PodID(b.Spec.Annotations) != "" || b.Joins(specs.IPCNamespace) || p.sharableMemory && !b.inPod
}

// useSharedMemory binds the machine's own shared memory.
func (p *Plan) useSharedMemory() {
	for i, m := range p.Guest.Mounts {
		if m.Type != "tmpfs" || m.Source != sharedMemorySource {
			continue
		}
		options := []string{"rbind", "nosuid", "nodev", "noexec"}
		for _, o := range m.Options {
			if strings.HasPrefix(o, "size=") {
				options = append(options, o) // for the agent, who has the tmpfs
			}
		}
		p.Guest.Mounts[i] = specs.Mount{Destination: m.Destination, Type: "bind", Source: sharedMemory, Options: options}
	}
}

// kernelDirs are interfaces to a kernel. The guest's kernel has the same ones
// for its own, and only these may be seen there.
var kernelDirs = []string{"/proc", "/sys", "/dev"}

// guestsOwn is the path in the guest of what stands for source there: the same
// device, or the same interface of the guest's kernel. It is empty for
// directories and regular files, which are exported.
func guestsOwn(source string, st fs.FileInfo) (string, error) {
	if st.Mode()&fs.ModeDevice != 0 {
		return guestDevice(source, st)
	}
	if !st.IsDir() && !st.Mode().IsRegular() {
		return "", fmt.Errorf("%s is a %s, which cannot cross the machine's boundary: only directories and regular files can", source, kind(st.Mode()))
	}
	for _, d := range kernelDirs {
		if !within(d, source) || within(sharedMemory, source) {
			continue
		}
		if d == "/proc" && ofProcess(source) {
			return "", fmt.Errorf("%s belongs to a process of the host, which the guest does not have", source)
		}
		return source, nil
	}
	return "", nil
}

// within tells whether path is dir or lies below it; both are clean.
func within(dir, path string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// ofProcess tells whether a path below /proc is about one process.
func ofProcess(path string) bool {
	name, _, _ := strings.Cut(strings.TrimPrefix(path, "/proc/"), "/")
	_, err := strconv.Atoi(name)
	return err == nil || name == "self" || name == "thread-self"
}

func guestDevice(source string, st fs.FileInfo) (string, error) {
	sys, ok := st.Sys().(*syscall.Stat_t)
	if ok && st.Mode()&fs.ModeCharDevice != 0 {
		if path := guestDevices[[2]int64{int64(unix.Major(sys.Rdev)), int64(unix.Minor(sys.Rdev))}]; path != "" {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is a device of the host, which the guest does not have", source)
}

func kind(m fs.FileMode) string {
	switch {
	case m&fs.ModeSocket != 0:
		return "socket"
	case m&fs.ModeNamedPipe != 0:
		return "named pipe"
	}
	return "special file"
}
