package network

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/agent/api"
)

// setNeighbours adds or changes the entries in want, and removes what it has set
// before and is not there.
func (n *Network) setNeighbours(links map[string]netlink.Link, want []api.Neighbour) error {
	var all []error
	set := map[string]*netlink.Neigh{}
	for i := range want {
		entry, err := neighbour(links, &want[i])
		if err == nil {
			set[fmt.Sprint(entry.LinkIndex, entry.IP)] = entry
			err = netlink.NeighSet(entry)
		}
		if err != nil {
			all = append(all, fmt.Errorf("add neighbour %s: %w", want[i].Address, err))
		}
	}
	for key, entry := range n.neighbours {
		if set[key] != nil {
			continue
		}
		if err := netlink.NeighDel(entry); err != nil && !gone(err) {
			all = append(all, fmt.Errorf("remove neighbour %s: %w", entry.IP, err))
		}
	}
	n.neighbours = set
	return errors.Join(all...)
}

func neighbour(links map[string]netlink.Link, n *api.Neighbour) (*netlink.Neigh, error) {
	link, ok := links[n.Interface]
	if !ok {
		return nil, fmt.Errorf("no interface %s", n.Interface)
	}
	mac, err := net.ParseMAC(n.MAC)
	if err != nil {
		return nil, err
	}
	return &netlink.Neigh{LinkIndex: link.Attrs().Index, IP: n.Address.AsSlice(), HardwareAddr: mac, State: netlink.NUD_PERMANENT}, nil
}

// gone says that err is about what is not there, or whose interface is not.
func gone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EADDRNOTAVAIL)
}
