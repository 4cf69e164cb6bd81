package netns

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/agent/api"
)

// Link is an interface of a namespace.
type Link struct {
	// Index is its number in the namespace.
	Index int
	api.Interface
}

// Contents is what a namespace has that a guest can have, too.
type Contents struct {
	// Links are the Ethernet interfaces that are up, in order of their index.
	// Their NIC is not set.
	Links      []Link
	Routes     []api.Route
	Neighbours []api.Neighbour
	// Others are the names of interfaces that a guest cannot have.
	Others []string
}

// Read reads the calling thread's namespace.
func Read() (*Contents, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list network interfaces: %w", err)
	}
	c := &Contents{}
	names := map[int]string{}
	for _, l := range links {
		switch a := l.Attrs(); {
		case a.Flags&net.FlagLoopback != 0 || a.Flags&net.FlagUp == 0 || strings.HasPrefix(a.Name, tapPrefix):
		case a.EncapType != "ether":
			c.Others = append(c.Others, a.Name)
		default:
			link, err := readLink(l)
			if err != nil {
				return nil, err
			}
			c.Links = append(c.Links, *link)
			names[a.Index] = a.Name
		}
	}
	if c.Routes, err = readRoutes(names); err != nil {
		return nil, err
	}
	c.Neighbours, err = readNeighbours(names)
	return c, err
}

func readLink(l netlink.Link) (*Link, error) {
	a := l.Attrs()
	link := &Link{Index: a.Index, Interface: api.Interface{Name: a.Name, MAC: a.HardwareAddr.String(), MTU: a.MTU}}
	addrs, err := netlink.AddrList(l, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list addresses of %s: %w", a.Name, err)
	}
	for i := range addrs {
		link.Addresses = append(link.Addresses, readAddress(&addrs[i]))
	}
	return link, nil
}

// keptFlags are what makes a difference to a copy of an address.
const keptFlags = unix.IFA_F_NOPREFIXROUTE

func readAddress(a *netlink.Addr) api.Address {
	r := api.Address{Prefix: prefix(a.IPNet), Scope: a.Scope, Flags: a.Flags & keptFlags, Label: a.Label}
	if a.Peer != nil {
		r.Peer = prefix(a.Peer)
	}
	r.Broadcast = addr(a.Broadcast)
	return r
}

// readRoutes reads what was set by hand. Of the local table nothing was.
func readRoutes(names map[int]string) ([]api.Route, error) {
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	var direct, indirect []api.Route
	for i := range routes {
		r := &routes[i]
		name, ok := names[r.LinkIndex]
		if !ok || r.Table == unix.RT_TABLE_LOCAL || r.Protocol == unix.RTPROT_KERNEL || r.Protocol == unix.RTPROT_RA {
			continue
		}
		if route := readRoute(r, name); route.Gateway.IsValid() {
			indirect = append(indirect, route)
		} else {
			direct = append(direct, route)
		}
	}
	return append(direct, indirect...), nil
}

func readRoute(r *netlink.Route, name string) api.Route {
	route := api.Route{
		Interface: name, Gateway: addr(r.Gw), Source: addr(r.Src), Table: r.Table, Type: r.Type, Scope: int(r.Scope),
		Protocol: int(r.Protocol), Priority: r.Priority, Flags: r.Flags & unix.RTNH_F_ONLINK, MTU: r.MTU,
	}
	switch {
	case r.Dst != nil:
		route.Destination = prefix(r.Dst)
	case r.Family == unix.AF_INET6:
		route.Destination = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	default:
		route.Destination = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return route
}

func readNeighbours(names map[int]string) ([]api.Neighbour, error) {
	entries, err := netlink.NeighList(0, 0)
	if err != nil {
		return nil, fmt.Errorf("list neighbours: %w", err)
	}
	var all []api.Neighbour
	for _, n := range entries {
		name, ok := names[n.LinkIndex]
		if ok && n.State&netlink.NUD_PERMANENT != 0 && len(n.HardwareAddr) == 6 {
			all = append(all, api.Neighbour{Interface: name, Address: addr(n.IP), MAC: n.HardwareAddr.String()})
		}
	}
	return all, nil
}

func prefix(n *net.IPNet) netip.Prefix {
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(addr(n.IP), bits)
}

// addr is invalid for no address.
func addr(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}
