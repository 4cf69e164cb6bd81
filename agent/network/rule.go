package network

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/agent/api"
)

// setRules adds what is missing, and removes what it has set before and is not
// in want.
func (n *Network) setRules(want []api.Rule) error {
	var all []error
	set := map[string]*netlink.Rule{}
	for i := range want {
		text, err := json.Marshal(&want[i])
		if err != nil {
			return fmt.Errorf("add routing rule: %w", err)
		}
		r := n.rules[string(text)]
		if r == nil {
			if r, err = rule(&want[i]); err == nil {
				err = netlink.RuleAdd(r)
			}
			if err != nil && !errors.Is(err, unix.EEXIST) {
				all = append(all, fmt.Errorf("add routing rule of priority %d: %w", want[i].Priority, err))
				continue
			}
		}
		set[string(text)] = r
	}
	for key, r := range n.rules {
		if set[key] != nil {
			continue
		}
		if err := netlink.RuleDel(r); err != nil && !errors.Is(err, unix.ENOENT) {
			all = append(all, fmt.Errorf("remove routing rule of priority %d: %w", r.Priority, err))
			set[key] = r
		}
	}
	n.rules = set
	return errors.Join(all...)
}

func rule(r *api.Rule) (*netlink.Rule, error) {
	n := netlink.NewRule()
	n.Family = netlink.FAMILY_V4
	if r.IPv6 {
		n.Family = netlink.FAMILY_V6
	}
	n.Priority, n.Type, n.Table, n.Invert = r.Priority, uint8(r.Type), r.Table, r.Not
	n.IifName, n.OifName, n.Tos, n.Mark, n.Mask, n.IPProto, n.Protocol = r.In, r.Out, r.TOS, r.Mark, r.Mask, r.IPProtocol, r.Protocol
	if r.From.IsValid() {
		n.Src = ipNet(r.From)
	}
	if r.To.IsValid() {
		n.Dst = ipNet(r.To)
	}
	if r.Goto != nil {
		n.Goto = *r.Goto
	}
	if r.SuppressPrefix != nil {
		if r.Table > maxTable {
			return nil, fmt.Errorf("suppress_prefixlength cannot be set for a table above %d", maxTable)
		}
		n.SuppressPrefixlen = *r.SuppressPrefix
	}
	if p := r.SourcePorts; p != nil {
		n.Sport = netlink.NewRulePortRange(p[0], p[1])
	}
	if p := r.DestinationPorts; p != nil {
		n.Dport = netlink.NewRulePortRange(p[0], p[1])
	}
	if u := r.Users; u != nil {
		n.UIDRange = netlink.NewRuleUIDRange(u[0], u[1])
	}
	return n, nil
}

// maxTable is up to where package netlink passes on all that a rule says.
const maxTable = 255
