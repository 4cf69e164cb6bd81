package network

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"

	"github.com/microvm/microvm/agent/api"
)

// bringVLAN returns the VLAN that is to be i, which it makes if there is none.
func (n *Network) bringVLAN(i *api.Interface, links map[string]netlink.Link) (netlink.Link, error) {
	if _, ok := n.vlans[i.Name]; ok {
		return netlink.LinkByName(i.Name)
	}
	parent, ok := links[i.VLAN.Parent]
	if !ok {
		return nil, fmt.Errorf("make VLAN %s: no interface %s", i.Name, i.VLAN.Parent)
	}
	err := netlink.LinkAdd(&netlink.Vlan{
		LinkAttrs: netlink.LinkAttrs{Name: i.Name, ParentIndex: parent.Attrs().Index},
		VlanId:    i.VLAN.ID, VlanProtocol: netlink.VlanProtocol(i.VLAN.Protocol),
	})
	if err != nil {
		return nil, fmt.Errorf("make VLAN %s: %w", i.Name, err)
	}
	n.vlans[i.Name] = *i.VLAN
	return netlink.LinkByName(i.Name)
}

// removeVLANs removes those that are not in want as they are. One whose parent
// is put away has gone with it.
func (n *Network) removeVLANs(want []api.Interface) error {
	keep := map[string]bool{}
	for _, i := range want {
		keep[i.Name] = i.VLAN != nil && n.vlans[i.Name] == *i.VLAN
	}
	var all []error
	for name := range n.vlans {
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
			delete(n.vlans, name)
		}
		all = append(all, err)
	}
	return errors.Join(all...)
}
