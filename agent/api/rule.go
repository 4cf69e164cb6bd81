package api

import "net/netip"

// Rule is a rule of policy routing. Numbers are those of linux/fib_rules.h and
// linux/rtnetlink.h; what is zero or nil does not matter to it.
type Rule struct {
	IPv6     bool `json:"ipv6,omitempty"`
	Priority int  `json:"priority"`
	// Type is what it does: RTN_UNICAST asks Table.
	Type int `json:"type,omitempty"`
	// Table of routes.
	Table int `json:"table,omitempty"`
	// Goto is the priority of the rule to go on with.
	Goto *int `json:"goto,omitempty"`
	// Not inverts what follows.
	Not              bool         `json:"not,omitempty"`
	From             netip.Prefix `json:"from,omitzero"`
	To               netip.Prefix `json:"to,omitzero"`
	In               string       `json:"in,omitempty"`
	Out              string       `json:"out,omitempty"`
	TOS              uint         `json:"tos,omitempty"`
	Mark             uint32       `json:"mark,omitempty"`
	Mask             *uint32      `json:"mask,omitempty"`
	IPProtocol       int          `json:"ipProtocol,omitempty"`
	SourcePorts      *[2]uint16   `json:"sourcePorts,omitempty"`
	DestinationPorts *[2]uint16   `json:"destinationPorts,omitempty"`
	Users            *[2]uint32   `json:"users,omitempty"`
	// SuppressPrefix leaves routes aside whose prefix is not longer.
	SuppressPrefix *int `json:"suppressPrefix,omitempty"`
	// Protocol is who has made it.
	Protocol uint8 `json:"protocol,omitempty"`
}
