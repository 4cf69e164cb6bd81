package bundle

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/microvm/microvm/agent/api"
)

// RootTypes are the file systems on disks that the guest can make a root file
// system of.
var RootTypes = []string{"ext2", "ext3", "ext4", "erofs", api.LoopType}

// ownDevices are file systems of which a snapshotter hands over parts. The host
// itself keeps its snapshots there, and has mounted them already.
var ownDevices = []string{"btrfs", "zfs"}

// RootTransforms are what the guest can do to a mount of containerd's before it is
// made.
var RootTransforms = []string{api.TransformFormat, api.TransformMkdir}

// RootInGuest tells whether the guest has to put a root file system together, as
// mounts of a snapshotter describe it. It has to where that is on images or block
// devices: containers write to these, and the host's kernel is not to believe what
// they have written.
func RootInGuest(mounts []*api.Mount, stat Stat) (bool, error) {
	guest := false
	for i, m := range mounts {
		kind, transformed, err := baseType(m)
		if err != nil {
			return false, rootError(i, m, err)
		}
		disk := slices.Contains(RootTypes, kind)
		guest = guest || transformed || disk
		if disk || slices.Contains(ownDevices, kind) {
			continue
		}
		if st, err := stat(m.GetSource()); err == nil && kind != "bind" && !st.IsDir() {
			return false, rootError(i, m, unsupported(kind))
		}
	}
	return guest, nil
}

func unsupported(kind string) error {
	return fmt.Errorf("a file system of type %s on an image or block device is not supported, %v are", kind, RootTypes)
}

func rootError(i int, m *api.Mount, err error) error {
	return fmt.Errorf("root file system: mount %d of type %s from %s: %w", i, m.GetType(), m.GetSource(), err)
}

// baseType is m's type without what is to be done before the mount.
func baseType(m *api.Mount) (kind string, transformed bool, err error) {
	kind = m.GetType()
	for {
		first, rest, ok := strings.Cut(kind, "/")
		if !ok {
			return kind, transformed, nil
		}
		if !slices.Contains(RootTransforms, first) {
			return "", false, fmt.Errorf("the transformation %s is not supported, %v are", first, RootTransforms)
		}
		kind, transformed = rest, true
	}
}

// AssembleRoot has the guest put the root file system together out of mounts. What
// is on disks is disks of the guest; directories of the host are exports.
func (p *Plan) AssembleRoot(mounts []*api.Mount, stat Stat) error {
	p.Exports = slices.DeleteFunc(p.Exports, func(e Export) bool { return e.Name == RootExport })
	p.Mountpoints = nil // the guest makes them
	p.Root = nil
	for i, m := range mounts {
		kind, _, err := baseType(m)
		if err != nil {
			return rootError(i, m, err)
		}
		layer := &api.Mount{Type: m.GetType(), Source: m.GetSource(), Target: m.GetTarget(), Options: slices.Clone(m.GetOptions())}
		if err = checkRootOptions(layer.Options); err != nil {
			return rootError(i, m, err)
		}
		switch kind {
		case "bind":
			err = p.rootBind(i, layer, stat)
		case overlayType:
			err = p.rootOverlay(i, layer, stat)
		case "tmpfs":
		default:
			if err = unsupported(kind); slices.Contains(RootTypes, kind) {
				err = p.rootDisk(i, kind, layer, stat)
			}
		}
		if err != nil {
			return rootError(i, m, err)
		}
		p.Root = append(p.Root, layer)
	}
	return nil
}

// checkRootOptions refuses what it would be wrong to leave out.
func checkRootOptions(options []string) error {
	for _, o := range options {
		name, _, _ := strings.Cut(o, "=")
		switch {
		case name == "X-containerd.dmverity":
			return errors.New("the guest's kernel has no dm-verity: set dmverity_mode of the snapshotter to off")
		case strings.HasPrefix(name, "X-containerd.") && name != api.OptionMkdir:
			return fmt.Errorf("option %s is not supported", o)
		case name == api.OptionMkdir && !isTemplate(o):
			return fmt.Errorf("option %s: a directory of the host is not made for a root file system", o)
		case name == "uidmap" || name == "gidmap":
			return fmt.Errorf("option %s: a root file system that the guest puts together cannot have mapped ids", o)
		}
	}
	return nil
}

// isTemplate tells whether s is for the guest to fill in.
func isTemplate(s string) bool { return strings.Contains(s, "{{") }

// rootDisk makes a disk of m's source, and of the other devices of an erofs.
func (p *Plan) rootDisk(i int, kind string, m *api.Mount, stat Stat) (err error) {
	m.Options = diskOptions(kind, m.Options)
	ro := readOnly(m.Options)
	if !isTemplate(m.Source) {
		if m.Source, err = p.addDisk(fmt.Sprintf("root%d", i), m.Source, kind, ro, stat); err != nil {
			return err
		}
	}
	for j, o := range m.Options {
		if path, ok := strings.CutPrefix(o, "device="); ok && kind == "erofs" {
			if path, err = p.addDisk(fmt.Sprintf("root%d-%d", i, j), path, kind, ro, stat); err != nil {
				return err
			}
			m.Options[j] = "device=" + path
		}
	}
	return nil
}

// rootBind makes an export of m's source, if that is the host's.
func (p *Plan) rootBind(i int, m *api.Mount, stat Stat) (err error) {
	if !isTemplate(m.Source) {
		m.Source, err = p.exportDir(rootLayer(fmt.Sprintf("root%d", i), m.Source, readOnly(m.Options)), stat)
	}
	return err
}

func rootLayer(name, path string, ro bool) Export {
	return Export{Name: name, Path: path, ReadOnly: ro, Submounts: true, Destination: "/", Immutable: ro}
}

// rootOverlay makes exports of the layers of m that are the host's.
//
// On a share the marks of an overlay are attributes of users, the only ones that a
// guest may set there.
func (p *Plan) rootOverlay(i int, m *api.Mount, stat Stat) error {
	l, err := parseLayers(m.Options)
	if err != nil {
		return err
	}
	exported := 0
	for n, dir := range l.lower {
		if isTemplate(dir) {
			continue
		}
		if exported++; exported > 1 {
			return errors.New("several lower layers in directories of the host, and others on disks: directories hide how they cover each other")
		}
		if l.lower[n], err = p.exportDir(rootLayer(fmt.Sprintf("root%d-lower%d", i, n), dir, true), stat); err != nil {
			return err
		}
	}
	if l.upper != "" && !isTemplate(l.upper) {
		err := l.exportUpper(func(dir string) (string, error) {
			return p.exportDir(rootLayer(fmt.Sprintf("root%d-upper", i), dir, false), stat)
		})
		if err != nil {
			return err
		}
		l.rest = append(l.rest, api.OptionUserXattr)
	}
	m.Source, m.Options = overlayType, l.options()
	return nil
}
