package network

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"

	"github.com/microvm/microvm/agent/api"
)

// bringUpper returns the interface on top of another that is to be i, which it
// makes if there is none.
func (n *Network) bringUpper(i *api.Interface, links map[string]netlink.Link) (netlink.Link, error) {
	if _, ok := n.uppers[i.Name]; ok {
		return netlink.LinkByName(i.Name)
	}
	parent, ok := links[i.On.Parent]
	if !ok {
		return nil, fmt.Errorf("make %s %s: no interface %s", i.On.Kind, i.Name, i.On.Parent)
	}
	if err := netlink.LinkAdd(upper(i, parent)); err != nil {
		return nil, fmt.Errorf("make %s %s: %w", i.On.Kind, i.Name, err)
	}
	n.uppers[i.Name] = *i.On
	return netlink.LinkByName(i.Name)
}

func upper(i *api.Interface, parent netlink.Link) netlink.Link {
	a := netlink.LinkAttrs{Name: i.Name, ParentIndex: parent.Attrs().Index}
	switch i.On.Kind {
	case api.KindMACVLAN:
		return &netlink.Macvlan{LinkAttrs: a, Mode: netlink.MacvlanMode(i.On.Mode)}
	case api.KindIPVLAN:
		return &netlink.IPVlan{LinkAttrs: a, Mode: netlink.IPVlanMode(i.On.Mode)}
	}
	return &netlink.Vlan{LinkAttrs: a, VlanId: i.On.ID, VlanProtocol: netlink.VlanProtocol(i.On.Protocol)}
}

// removeUppers removes those that are not in want as they are. One whose parent
// is put away has gone with it.
func (n *Network) removeUppers(want []api.Interface) error {
	keep := map[string]bool{}
	for _, i := range want {
		keep[i.Name] = i.On != nil && n.uppers[i.Name] == *i.On
	}
	var all []error
	for name := range n.uppers {
		if keep[name] {
			continue
		}
		link, err := netlink.LinkByName(name)
		if err == nil {
			err = netlink.LinkDel(link)
		}
		if errors.As(err, new(netlink.LinkNotFoundError)) {
			err = nil
		}
		if err == nil {
			delete(n.uppers, name)
			delete(n.settings, name)
		}
		all = append(all, err)
	}
	return errors.Join(all...)
}
