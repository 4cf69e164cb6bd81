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

// setAddresses adds what is missing and removes what is too much.
func setAddresses(link netlink.Link, want []api.Address) error {
	present, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	wanted := map[netip.Prefix]bool{}
	for _, a := range want {
		wanted[a.Prefix] = true
	}
	var all []error
	have := map[netip.Prefix]bool{}
	for _, a := range present {
		p := prefixOf(a.IPNet)
		have[p] = true
		if !wanted[p] {
			all = append(all, netlink.AddrDel(link, &a))
		}
	}
	for _, a := range want {
		if have[a.Prefix] {
			continue
		}
		if err := netlink.AddrAdd(link, address(&a)); err != nil && !errors.Is(err, unix.EEXIST) {
			all = append(all, fmt.Errorf("add address %s: %w", a.Prefix, err))
		}
	}
	return errors.Join(all...)
}

// setLoopback gives the loopback interface the addresses in want besides those
// that it has by itself, and removes what it has given before and is not there.
func (n *Network) setLoopback(want []api.Address) error {
	if len(want) == 0 && len(n.loopback) == 0 {
		return nil
	}
	link, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	var all []error
	set := map[string]*netlink.Addr{}
	for i := range want {
		a := address(&want[i])
		set[want[i].Prefix.String()] = a
		if err := netlink.AddrAdd(link, a); err != nil && !errors.Is(err, unix.EEXIST) {
			all = append(all, fmt.Errorf("add address %s to the loopback interface: %w", want[i].Prefix, err))
		}
	}
	for key, a := range n.loopback {
		if set[key] != nil {
			continue
		}
		if err := netlink.AddrDel(link, a); err != nil && !gone(err) {
			all = append(all, fmt.Errorf("remove address %s of the loopback interface: %w", key, err))
		}
	}
	n.loopback = set
	return errors.Join(all...)
}

func address(a *api.Address) *netlink.Addr {
	n := &netlink.Addr{IPNet: ipNet(a.Prefix), Scope: a.Scope, Flags: a.Flags, Label: a.Label}
	if a.Prefix.Addr().Is6() {
		n.Flags |= unix.IFA_F_NODAD // the host's kernel has checked it
	}
	if a.Peer.IsValid() {
		n.Peer = ipNet(a.Peer)
	}
	if a.Broadcast.IsValid() {
		n.Broadcast = a.Broadcast.AsSlice()
	}
	return n
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func prefixOf(n *net.IPNet) netip.Prefix {
	if n == nil {
		return netip.Prefix{}
	}
	addr, _ := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), bits)
}
