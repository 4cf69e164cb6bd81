package bundle

import (
	"slices"
	"strings"
)

// Prefix puts prefix before the names of all exports, so that the containers
// of a machine don't meet.
func (p *Plan) Prefix(prefix string) {
	dir := guestPath("")
	renamed := func(s string) string { return strings.ReplaceAll(s, dir, dir+prefix) }
	for i := range p.Exports {
		p.Exports[i].Name = prefix + p.Exports[i].Name
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
