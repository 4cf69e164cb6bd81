package netns

import (
	"fmt"

	"github.com/vishvananda/netlink"

	"github.com/microvm/microvm/agent/api"
)

// stack is which interfaces of a namespace are on top of which, by index.
//
// What an interface receives is redirected to the guest before it could reach
// an interface on top of it. So that is made in the guest, too, and the port of a
// bridge or a bond is left alone, for the bridge or bond has its frames.
type stack map[int]netlink.Link

func newStack(links []netlink.Link) stack {
	s := stack{}
	for _, l := range links {
		s[l.Attrs().Index] = l
	}
	return s
}

// isPort tells whether l belongs to a bridge, a bond or the like that is here.
func (s stack) isPort(l netlink.Link) bool {
	_, ok := s[l.Attrs().MasterIndex]
	return ok
}

// below is what l is on top of, if that is here.
func (s stack) below(l netlink.Link) netlink.Link {
	a := l.Attrs()
	if a.NetNsID >= 0 {
		return nil // the number is of another namespace
	}
	return s[a.ParentIndex]
}

// unfit says why a guest cannot have l, if so.
func (s stack) unfit(l netlink.Link) string {
	if l.Attrs().EncapType != "ether" {
		return "it is not Ethernet"
	}
	switch l := l.(type) {
	case *netlink.IPVlan:
		if l.Mode == netlink.IPVLAN_MODE_L3S {
			return "what an ipvlan of mode l3s receives cannot be redirected; modes l2 and l3 can"
		}
	case *netlink.Macvtap:
		if below := s.below(l); below != nil {
			return fmt.Sprintf("it is on top of %s in the same namespace", below.Attrs().Name)
		}
	}
	return ""
}

// depth is on how many interfaces the guest has to have before l.
func (s stack) depth(l netlink.Link) (n int) {
	for s.on(l) != nil {
		l = s.below(l)
		n++
	}
	return n
}

// on is what l is on top of an interface that is here, or nil.
func (s stack) on(l netlink.Link) *api.Upper {
	below := s.below(l)
	if below == nil {
		return nil
	}
	parent := below.Attrs().Name
	switch l := l.(type) {
	case *netlink.Vlan:
		return &api.Upper{Parent: parent, Kind: api.KindVLAN, ID: l.VlanId, Protocol: int(l.VlanProtocol)}
	case *netlink.Macvlan:
		return &api.Upper{Parent: parent, Kind: api.KindMACVLAN, Mode: int(l.Mode)}
	case *netlink.IPVlan:
		return &api.Upper{Parent: parent, Kind: api.KindIPVLAN, Mode: int(l.Mode)}
	}
	return nil
}
