package netns

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/agent/api"
)

// readRoutes reads what was set by hand or by a router, of interfaces in names. Of
// the local table nothing was.
func readRoutes(names map[int]string) ([]api.Route, error) {
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	var direct, indirect []api.Route
	for i := range routes {
		r := &routes[i]
		if r.Table == unix.RT_TABLE_LOCAL || r.Protocol == unix.RTPROT_KERNEL {
			continue
		}
		if r.Protocol == unix.RTPROT_RA {
			// It comes behind that of the guest's kernel, once this hears the router: it
			// would heed nothing of what that says if it had the same one already.
			r.Protocol, r.Priority = unix.RTPROT_BOOT, r.Priority+1
		}
		route, ok := readRoute(r, names)
		switch {
		case !ok:
		case route.Gateway.IsValid() || len(route.Hops) > 0:
			indirect = append(indirect, route)
		default:
			direct = append(direct, route)
		}
	}
	return append(direct, indirect...), nil
}

// dead are the types of routes that lead nowhere, whatever interface the kernel
// says they have.
var dead = []int{unix.RTN_BLACKHOLE, unix.RTN_UNREACHABLE, unix.RTN_PROHIBIT, unix.RTN_THROW}

// readRoute returns false for a route of interfaces that are not in names.
func readRoute(r *netlink.Route, names map[int]string) (api.Route, bool) {
	route := api.Route{
		Destination: destination(r), Gateway: gateway(r.Gw, r.Via), Source: addr(r.Src), Table: r.Table, Type: r.Type, Scope: int(r.Scope),
		Protocol: int(r.Protocol), Priority: r.Priority, TOS: r.Tos, Flags: r.Flags & unix.RTNH_F_ONLINK,
		MTU: r.MTU, MTULock: r.MTULock, AdvMSS: r.AdvMSS, HopLimit: r.Hoplimit, InitCwnd: r.InitCwnd, InitRwnd: r.InitRwnd,
	}
	if slices.Contains(dead, r.Type) {
		return route, true
	}
	for _, h := range r.MultiPath {
		name, ok := names[h.LinkIndex]
		if !ok {
			return route, false
		}
		route.Hops = append(route.Hops, api.Hop{Interface: name, Gateway: gateway(h.Gw, h.Via), Weight: h.Hops, Flags: h.Flags & unix.RTNH_F_ONLINK})
	}
	if len(route.Hops) > 0 {
		return route, true
	}
	name, ok := names[r.LinkIndex]
	route.Interface = name
	return route, ok
}

func destination(r *netlink.Route) netip.Prefix {
	switch {
	case r.Dst != nil:
		return prefix(r.Dst)
	case r.Family == unix.AF_INET6:
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
}

// gateway is that of the route's own family, or of another one.
func gateway(gw []byte, via netlink.Destination) netip.Addr {
	if v, ok := via.(*netlink.Via); ok && gw == nil {
		return addr(v.Addr)
	}
	return addr(gw)
}

// lastRules are the rules that every namespace has besides that of priority 0,
// by priority.
var lastRules = map[int]int{32766: unix.RT_TABLE_MAIN, 32767: unix.RT_TABLE_DEFAULT}

// readRules reads the rules that were set by hand.
func readRules() ([]api.Rule, error) {
	var all []api.Rule
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		rules, err := netlink.RuleList(family)
		if err != nil {
			return nil, fmt.Errorf("list routing rules: %w", err)
		}
		for i := range rules {
			r := &rules[i]
			if table, ok := lastRules[r.Priority]; r.Priority <= 0 || ok && r.Table == table || asksNothing(r) {
				continue
			}
			all = append(all, readRule(r, family == netlink.FAMILY_V6))
		}
	}
	return all, nil
}

// asksNothing tells whether r is about devices of kinds that a guest has not
// (VRF, whose rule names no table).
func asksNothing(r *netlink.Rule) bool {
	return r.Type == unix.RTN_UNICAST && r.Table == 0 && r.Goto < 0
}

func readRule(r *netlink.Rule, v6 bool) api.Rule {
	rule := api.Rule{
		IPv6: v6, Priority: r.Priority, Type: int(r.Type), Table: r.Table, Not: r.Invert, In: r.IifName, Out: r.OifName,
		TOS: r.Tos, Mark: r.Mark, Mask: r.Mask, IPProtocol: r.IPProto, Protocol: r.Protocol,
	}
	if r.Src != nil {
		rule.From = prefix(r.Src)
	}
	if r.Dst != nil {
		rule.To = prefix(r.Dst)
	}
	if r.Goto >= 0 {
		rule.Goto = &r.Goto
	}
	if r.SuppressPrefixlen >= 0 {
		rule.SuppressPrefix = &r.SuppressPrefixlen
	}
	if r.Sport != nil {
		rule.SourcePorts = &[2]uint16{r.Sport.Start, r.Sport.End}
	}
	if r.Dport != nil {
		rule.DestinationPorts = &[2]uint16{r.Dport.Start, r.Dport.End}
	}
	if r.UIDRange != nil {
		rule.Users = &[2]uint32{r.UIDRange.Start, r.UIDRange.End}
	}
	return rule
}
