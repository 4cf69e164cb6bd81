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

// setRoutes adds or changes all routes in want, and removes what it has set before
// and is not there.
func (n *Network) setRoutes(links map[string]netlink.Link, want []api.Route) error {
	var all []error
	set := map[string]*netlink.Route{}
	for i := range want {
		r, err := route(links, &want[i])
		if err == nil {
			set[key(r)] = r
			err = netlink.RouteReplace(r)
		}
		if err != nil {
			all = append(all, fmt.Errorf("add route to %s: %w", want[i].Destination, err))
		}
	}
	for k, r := range n.routes {
		if set[k] != nil {
			continue
		}
		if err := netlink.RouteDel(r); err != nil && !errors.Is(err, unix.ESRCH) && !gone(err) { // as with its interface or address
			all = append(all, fmt.Errorf("remove route to %s: %w", r.Dst, err))
		}
	}
	n.routes = set
	return errors.Join(all...)
}

func route(links map[string]netlink.Link, r *api.Route) (*netlink.Route, error) {
	n := &netlink.Route{
		Dst: ipNet(r.Destination), Table: r.Table, Type: r.Type, Scope: netlink.Scope(r.Scope),
		Protocol: netlink.RouteProtocol(r.Protocol), Priority: r.Priority, Tos: r.TOS, Flags: r.Flags,
		MTU: r.MTU, MTULock: r.MTULock, AdvMSS: r.AdvMSS, Hoplimit: r.HopLimit, InitCwnd: r.InitCwnd, InitRwnd: r.InitRwnd,
	}
	n.Gw, n.Via = gateway(r.Gateway, r.Destination)
	if r.Source.IsValid() {
		n.Src = r.Source.AsSlice()
	}
	if r.Interface != "" {
		link, ok := links[r.Interface]
		if !ok {
			return nil, fmt.Errorf("no interface %s", r.Interface)
		}
		n.LinkIndex = link.Attrs().Index
	}
	for _, h := range r.Hops {
		link, ok := links[h.Interface]
		if !ok {
			return nil, fmt.Errorf("no interface %s", h.Interface)
		}
		hop := &netlink.NexthopInfo{LinkIndex: link.Attrs().Index, Hops: h.Weight, Flags: h.Flags}
		hop.Gw, hop.Via = gateway(h.Gateway, r.Destination)
		n.MultiPath = append(n.MultiPath, hop)
	}
	return n, nil
}

// gateway is one of the destination's family, or via another one.
func gateway(a netip.Addr, to netip.Prefix) (net.IP, netlink.Destination) {
	switch {
	case !a.IsValid():
		return nil, nil
	case a.Is4() == to.Addr().Is4():
		return a.AsSlice(), nil
	}
	return nil, &netlink.Via{AddrFamily: netlink.FAMILY_V6, Addr: a.AsSlice()}
}

// key tells routes apart as the kernel does.
func key(r *netlink.Route) string {
	dst := "default"
	if r.Dst != nil {
		if ones, _ := r.Dst.Mask.Size(); ones > 0 {
			dst = r.Dst.String()
		} else if r.Dst.IP.To4() == nil {
			dst = "default6"
		}
	} else if r.Family == unix.AF_INET6 {
		dst = "default6"
	}
	table := r.Table
	if table == 0 {
		table = unix.RT_TABLE_MAIN
	}
	return fmt.Sprint(dst, " ", table, " ", r.Tos, " ", r.Priority, " ", r.LinkIndex)
}
