package netns

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
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
	// Links are the Ethernet interfaces that are up, those that others are on
	// top of first. Their NIC is not set.
	Links []Link
	// Loopback are the addresses of the loopback interface that it has not by
	// itself.
	Loopback   []api.Address
	Routes     []api.Route
	Rules      []api.Rule
	Neighbours []api.Neighbour
	// Others are the interfaces that are up and that a guest cannot have.
	Others []Other
	// Filtered are those of Links with filters for what they receive, which a
	// tap that stands before them does not heed; it may have one of its own
	// there, too, once there is one.
	Filtered []string `json:"-"`
}

// Other is an interface that a guest cannot have.
type Other struct{ Name, Why string }

// Read reads the calling thread's namespace.
func Read() (*Contents, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list network interfaces: %w", err)
	}
	c := &Contents{}
	if err := c.readLinks(links); err != nil {
		return nil, err
	}
	names := map[int]string{}
	for _, l := range c.Links {
		names[l.Index] = l.Name
	}
	if c.Routes, err = readRoutes(names); err != nil {
		return nil, err
	}
	if c.Rules, err = readRules(); err != nil {
		return nil, err
	}
	c.Neighbours, err = readNeighbours(names)
	return c, err
}

// readLinks sorts the links: those on top of others come after all that are not,
// and after those that they are on.
func (c *Contents) readLinks(links []netlink.Link) error {
	stack := newStack(links)
	for depth := 0; len(links) > 0; depth++ {
		var deeper []netlink.Link
		for _, l := range links {
			a := l.Attrs()
			if a.Flags&net.FlagLoopback != 0 {
				if err := c.readLoopback(l); err != nil {
					return err
				}
				continue
			}
			if a.Flags&net.FlagUp == 0 || strings.HasPrefix(a.Name, tapPrefix) || stack.isPort(l) {
				continue
			}
			if why := stack.unfit(l); why != "" {
				c.Others = append(c.Others, Other{a.Name, why})
				continue
			}
			if stack.depth(l) > depth {
				deeper = append(deeper, l)
				continue
			}
			link, err := readLink(l, stack)
			if err != nil {
				return err
			}
			if u := link.On; u != nil && !c.has(u.Parent) {
				c.Others = append(c.Others, Other{a.Name, "it is on top of " + u.Parent + ", which the guest does not have"})
				continue
			}
			c.Links = append(c.Links, *link)
			if filters, _ := netlink.FilterList(l, netlink.HANDLE_MIN_INGRESS); len(filters) > 0 { // an error without any
				c.Filtered = append(c.Filtered, a.Name)
			}
		}
		links = deeper
	}
	return nil
}

func (c *Contents) has(name string) bool {
	return slices.ContainsFunc(c.Links, func(l Link) bool { return l.Name == name })
}

func readLink(l netlink.Link, s stack) (*Link, error) {
	a := l.Attrs()
	link := &Link{Index: a.Index, Interface: api.Interface{
		Name: a.Name, MAC: a.HardwareAddr.String(), MTU: a.MTU, NoARP: a.RawFlags&unix.IFF_NOARP != 0, On: s.on(l),
	}}
	var err error
	if link.Settings, err = readSettings(a.Name); err != nil {
		return nil, err
	}
	link.Addresses, err = readAddresses(l)
	return link, err
}

func (c *Contents) readLoopback(l netlink.Link) error {
	all, err := readAddresses(l)
	c.Loopback = slices.DeleteFunc(all, func(a api.Address) bool { return a.Prefix.Addr().IsLoopback() })
	return err
}

func readAddresses(l netlink.Link) (all []api.Address, err error) {
	addrs, err := netlink.AddrList(l, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list addresses of %s: %w", l.Attrs().Name, err)
	}
	for i := range addrs {
		all = append(all, readAddress(&addrs[i]))
	}
	return all, nil
}

// keptFlags are what makes a difference to a copy of an address.
const keptFlags = unix.IFA_F_NOPREFIXROUTE

func readAddress(a *netlink.Addr) api.Address {
	r := api.Address{Prefix: prefix(a.IPNet), Scope: a.Scope, Flags: a.Flags & keptFlags, Label: a.Label}
	if a.Peer != nil {
		r.Peer = prefix(a.Peer)
	}
	if r.Prefix.Addr().Is6() && a.Flags&unix.IFA_F_PERMANENT == 0 {
		r.Valid, r.Preferred = a.ValidLft, a.PreferedLft
	}
	r.Broadcast = addr(a.Broadcast)
	return r
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
