package bundle

import (
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/microvm/microvm/agent/api"
)

// RootExport is the name of the root file system's export.
const RootExport = "rootfs"

// Plan is a bundle's configuration split in two.
type Plan struct {
	// Guest is what the agent runs: all its paths are the guest's.
	Guest *specs.Spec
	// Exports are the directories and files of the host that the guest sees,
	// the root file system first, unless the guest makes that.
	Exports []Export
	// Disks are the block devices that the guest sees.
	Disks []Disk
	// Root is what the guest puts the root file system together of, if it is to;
	// then there is no export of it.
	Root []*api.Mount
	// Mountpoints have to exist in a read-only root file system before it is
	// exported, because the guest cannot make them.
	Mountpoints []Mountpoint
	// Size is what the container asks of its machine.
	Size Size
	// Notices tell the user what is other than the bundle says.
	Notices []string

	// sharableMemory says that the engine has prepared POSIX shared memory.
	sharableMemory bool
}

// Export is a directory or file of the host that the guest sees as Name below
// api.ExportsDir.
type Export struct {
	Name     string
	Path     string
	ReadOnly bool
	// WritableMounts says that ReadOnly is not for the host's mounts below Path.
	WritableMounts bool
	// Submounts says that the host's mounts below Path are seen, too.
	Submounts bool
	// Follow says that so are those which the host makes or ends later, as in a
	// slave of the host's mount.
	Follow bool
	// OneDevice shows those mounts as part of the export, not as devices of
	// their own. The guest's kernel needs that to map ids of the export, to
	// make it a layer of an overlay, or to share it among a pod's containers.
	OneDevice bool
	// Destination is where the container has it, or what it is a layer of.
	Destination string
	// Immutable says that nobody changes it while the container lives: it is a
	// layer of an image, or a root file system that only reading is done in.
	Immutable bool
}

// Disk is a regular file or block device of the host that is a block device of
// the guest. Serial is the name in api.DisksDir of one that is mounted, or made
// by api.DeviceSerial for one that is a device of the container.
type Disk struct {
	Serial   string
	Path     string
	ReadOnly bool
}

// IsDevice tells whether the disk is a device of containers, who share it, and not
// mounted for one.
func (d Disk) IsDevice() bool { return api.IsDeviceSerial(d.Serial) }

// FreezeRoot says that nobody changes a root file system that the container only
// reads. That is so for one in the bundle's own directory, where whoever manages
// images has mounted a snapshot for this container; another path may be anybody's.
func (p *Plan) FreezeRoot(b *Bundle) {
	for i := range p.Exports {
		if e := &p.Exports[i]; e.Name == RootExport && e.ReadOnly && e.Path == filepath.Join(b.Dir, "rootfs") {
			e.Immutable = true
		}
	}
}

// Mountpoint is a place in the root file system where something is mounted.
type Mountpoint struct {
	Path string
	// File says that a file is mounted there, not a directory.
	File bool
}

// Stat is os.Stat, or a stand-in for it.
type Stat func(path string) (fs.FileInfo, error)

// Split makes the plan for the container called id. It asks stat about the
// sources of bind mounts and about devices. b is not changed.
func (b *Bundle) Split(id string, stat Stat) (*Plan, error) {
	guest := *b.Spec
	p := &Plan{Guest: &guest, Size: SizeOf(b.Resources())}
	p.Exports = []Export{{Name: RootExport, Path: b.Rootfs(), ReadOnly: b.Spec.Root.Readonly, Submounts: true, Destination: "/"}}
	guest.Root = &specs.Root{Path: guestPath(RootExport), Readonly: b.Spec.Root.Readonly}
	guest.Hooks = guestHooks(b.Spec.Hooks)
	guest.Linux = guestLinux(b.Spec.Linux, id)
	if err := p.splitDevices(b, stat); err != nil {
		return nil, err
	}
	p.noticeRealtime(b.Resources())
	process := *b.Spec.Process
	if process.ExecCPUAffinity != nil {
		p.notice("process.execCPUAffinity: without effect, the guest has CPUs of its own")
	}
	guest.Process = GuestProcess(&process)
	guest.Annotations = guestAnnotations(b.Spec.Annotations)
	files, err := p.splitMounts(b, stat)
	if err != nil {
		return nil, err
	}
	if b.inPod {
		p.guestPod(b)
	}
	if p.sharesMemory(b) {
		p.useSharedMemory()
	}
	if b.Spec.Root.Readonly {
		p.Mountpoints = mountpoints(guest.Mounts, files)
	}
	return p, nil
}

func guestPath(export string) string { return api.ExportsDir + "/" + export }

// GuestProcess changes p into what the guest can do: labels of the host's
// security modules mean nothing there, where the machine confines already, nor
// do numbers of the host's CPUs.
func GuestProcess(p *specs.Process) *specs.Process {
	p.ApparmorProfile, p.SelinuxLabel = "", ""
	p.ExecCPUAffinity = nil
	return p
}

// mountpoints lists the destinations that lie in the root file system itself,
// not in something that is mounted before them.
func mountpoints(mounts []specs.Mount, files map[string]bool) []Mountpoint {
	var points []Mountpoint
	for i, m := range mounts {
		dest := filepath.Clean(m.Destination)
		inside := func(outer specs.Mount) bool {
			return strings.HasPrefix(dest, strings.TrimSuffix(filepath.Clean(outer.Destination), "/")+"/")
		}
		if !slices.ContainsFunc(mounts[:i], inside) {
			points = append(points, Mountpoint{Path: dest, File: files[m.Destination]})
		}
	}
	return points
}

// Made says that the mount point was missing, and is there now. The guest would
// give a tmpfs the mode of a directory that it finds, but one that it has to
// make the mode of /tmp.
func (p *Plan) Made(at Mountpoint) {
	for i := range p.Guest.Mounts {
		m := &p.Guest.Mounts[i]
		hasMode := func(o string) bool { return strings.HasPrefix(o, "mode=") }
		if m.Type == "tmpfs" && filepath.Clean(m.Destination) == at.Path && !slices.ContainsFunc(m.Options, hasMode) {
			m.Options = append(slices.Clone(m.Options), "mode=1777")
		}
	}
}

func guestAnnotations(all map[string]string) map[string]string {
	kept := maps.Clone(all)
	maps.DeleteFunc(kept, func(k, _ string) bool { return strings.HasPrefix(k, "io.microvm.") })
	return kept
}
