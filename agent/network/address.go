package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/agent/api"
)

// genModeNone is IN6_ADDR_GEN_MODE_NONE (linux/if_link.h).
const genModeNone = 1

// keepAddresses leaves all IPv6 addresses of an interface to the host, the
// link-local one too, which would else be made from the MAC.
func keepAddresses(link netlink.Link) error {
	err := netlink.LinkSetIP6AddrGenMode(link, genModeNone)
	if errors.Is(err, unix.EAFNOSUPPORT) { // the guest runs without IPv6
		return nil
	}
	return err
}

// placed is an address of an interface.
type placed struct {
	link netlink.Link
	*netlink.Addr
	key string
}

// lasting says that it is there until the host takes it away.
func (p *placed) lasting() bool { return p.ValidLft == 0 }

// setAddresses removes what was set before and is not wanted any more, and adds what
// is missing, the first of a subnet first. Other addresses are the container's own,
// or the kernel's by what routers say.
func (n *Network) setAddresses(links map[string]netlink.Link, want *api.Network) error {
	wanted, err := place(links, want)
	all := []error{err}
	keep := map[string]bool{}
	for _, p := range wanted {
		keep[p.key] = true
	}
	for _, p := range n.addresses {
		if keep[p.key] {
			continue
		}
		if err := netlink.AddrDel(p.link, p.Addr); err != nil && !gone(err) {
			all = append(all, fmt.Errorf("remove address %s of %s: %w", p.IPNet, p.link.Attrs().Name, err))
		}
	}
	n.addresses = nil
	for _, p := range wanted {
		if err := netlink.AddrAdd(p.link, p.Addr); err != nil && !errors.Is(err, unix.EEXIST) {
			all = append(all, fmt.Errorf("add address %s to %s: %w", p.IPNet, p.link.Attrs().Name, err))
			continue
		}
		if p.lasting() {
			n.addresses = append(n.addresses, p)
		}
	}
	return errors.Join(all...)
}

// place says which addresses are wanted where. links are the interfaces that there
// are.
func place(links map[string]netlink.Link, want *api.Network) (all []placed, err error) {
	add := func(link netlink.Link, addresses []api.Address) {
		for i := range addresses {
			a := &addresses[i]
			all = append(all, placed{link, address(a), fmt.Sprint(link.Attrs().Index, *a)})
		}
	}
	for i := range want.Interfaces {
		if link, ok := links[want.Interfaces[i].Name]; ok {
			add(link, want.Interfaces[i].Addresses)
		}
	}
	if len(want.Loopback) > 0 {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return all, err
		}
		add(lo, want.Loopback)
	}
	return all, nil
}

func address(a *api.Address) *netlink.Addr {
	n := &netlink.Addr{IPNet: ipNet(a.Prefix), Scope: a.Scope, Flags: a.Flags, Label: a.Label, ValidLft: a.Valid, PreferedLft: a.Preferred}
	if a.Prefix.Addr().Is6() {
		n.Flags |= unix.IFA_F_NODAD // the host's kernel has checked it
	}
	if a.Peer.IsValid() {
		n.Peer = ipNet(a.Peer)
	}
	n.Broadcast = net.IPv4zero // none, where nil is that of the subnet
	if a.Broadcast.IsValid() {
		n.Broadcast = a.Broadcast.AsSlice()
	}
	return n
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
