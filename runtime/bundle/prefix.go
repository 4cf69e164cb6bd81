package bundle

import (
	"slices"
	"strings"

	"github.com/microvm/microvm/agent/api"
)

// Prefix puts prefix before the names of all exports and mounted disks, so that
// the containers of a machine don't meet.
func (p *Plan) Prefix(prefix string) {
	exports, disks := guestPath(""), api.DisksDir+"/"
	rename := strings.NewReplacer(exports, exports+prefix, disks, disks+prefix)
	renamed := rename.Replace
	for i := range p.Exports {
		p.Exports[i].Name = prefix + p.Exports[i].Name
	}
	for i := range p.Disks {
		if d := &p.Disks[i]; !d.IsDevice() {
			d.Serial = prefix + d.Serial
		}
	}
	for _, m := range p.Root {
		m.Source = renamed(m.Source)
		for j, o := range m.Options {
			m.Options[j] = renamed(o)
		}
	}
	p.Guest.Root.Path = renamed(p.Guest.Root.Path)
	for i := range p.Guest.Mounts {
		m := &p.Guest.Mounts[i]
		m.Source = renamed(m.Source)
		m.Options = slices.Clone(m.Options) // of an overlay: its layers
		for j, o := range m.Options {
			m.Options[j] = renamed(o)
		}
	}
}

// Mounts tells whether an export is the source of mounts, and nothing else.
func (p *Plan) Mounts(export string) bool {
	path := guestPath(export)
	used := false
	for _, m := range p.Guest.Mounts {
		used = used || m.Source == path
		if slices.ContainsFunc(m.Options, func(o string) bool { return strings.Contains(o, path) }) {
			return false // an overlay's layer
		}
	}
	return used && p.Guest.Root.Path != path
}

// Remount makes the export called to the source of what from is mounted as.
func (p *Plan) Remount(from, to string) {
	for i := range p.Guest.Mounts {
		if m := &p.Guest.Mounts[i]; m.Source == guestPath(from) {
			m.Source = guestPath(to)
		}
	}
}
