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
