package api

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
)

// Network is all that the guest's network namespace is to have besides its
// loopback interface. It crosses as JSON, see [NetworkRequest].
type Network struct {
	Interfaces []Interface `json:"interfaces,omitempty"`
	// Loopback are addresses of the loopback interface, but for those that it
	// has by itself.
	Loopback []Address `json:"loopback,omitempty"`
	// Routes are those that the kernel does not make by itself from the
	// addresses, in an order that they can be added in.
	Routes []Route `json:"routes,omitempty"`
	// Rules are those that say which table of routes to ask, but for the three
	// that every namespace has.
	Rules []Rule `json:"rules,omitempty"`
	// Neighbours are permanent entries.
	Neighbours []Neighbour `json:"neighbours,omitempty"`
	// Nameservers are for ResolvConf.
	Nameservers []netip.Addr `json:"nameservers,omitempty"`
}

// Interface is a network interface, which one of the guest's network devices
// is to be.
type Interface struct {
	// NIC is the device, see NICAddress, if On is nil.
	NIC int `json:"nic"`
	// On says that it is on top of another interface, before it in the list.
	On   *Upper `json:"on,omitempty"`
	Name string `json:"name"`
	MAC  string `json:"mac"`
	// MTU in bytes.
	MTU int `json:"mtu"`
	// NoARP says that it does not ask who has an address (IFF_NOARP).
	NoARP     bool      `json:"noARP,omitempty"`
	Addresses []Address `json:"addresses,omitempty"`
	// Settings are those of [Settings] that are not as there.
	Settings map[string]string `json:"settings,omitempty"`
}

// Kinds of interfaces on top of others.
const (
	KindVLAN    = "vlan"
	KindMACVLAN = "macvlan"
	KindIPVLAN  = "ipvlan"
)

// Upper is an interface on top of another one.
type Upper struct {
	Parent string `json:"parent"`
	Kind   string `json:"kind"`
	// ID and Protocol are a VLAN's; the latter is ETH_P_8021Q or ETH_P_8021AD
	// (linux/if_ether.h).
	ID       int `json:"id,omitempty"`
	Protocol int `json:"protocol,omitempty"`
	// Mode of the other kinds, as package netlink counts them.
	Mode int `json:"mode,omitempty"`
}

// Address is an address of an interface.
type Address struct {
	Prefix netip.Prefix `json:"prefix"`
	// Peer is the other end's address on a point-to-point link.
	Peer netip.Prefix `json:"peer,omitzero"`
	// Broadcast is the address of the network's broadcasts.
	Broadcast netip.Addr `json:"broadcast,omitzero"`
	// Scope and Flags are RT_SCOPE_* and IFA_F_* (linux/rtnetlink.h,
	// linux/if_addr.h).
	Scope int `json:"scope,omitempty"`
	Flags int `json:"flags,omitempty"`
	// Label of an IPv4 address.
	Label string `json:"label,omitempty"`
	// Valid and Preferred are for how many seconds a router has told it, without
	// which it is there for good. The guest hears itself from the router then.
	Valid     int `json:"valid,omitempty"`
	Preferred int `json:"preferred,omitempty"`
}

// Route is a route. Numbers are those of linux/rtnetlink.h.
type Route struct {
	// Interface is the name of the interface that it leads out of; routes of
	// other types than RTN_UNICAST may have none, and those with Hops.
	Interface string `json:"interface,omitempty"`
	// Hops share what is sent.
	Hops []Hop `json:"hops,omitempty"`
	// Destination is where it leads to, everywhere of its family if the prefix
	// has no bits.
	Destination netip.Prefix `json:"destination"`
	Gateway     netip.Addr   `json:"gateway,omitzero"`
	Source      netip.Addr   `json:"source,omitzero"`
	Table       int          `json:"table,omitempty"`
	Type        int          `json:"type,omitempty"`
	Scope       int          `json:"scope,omitempty"`
	Protocol    int          `json:"protocol,omitempty"`
	Priority    int          `json:"priority,omitempty"`
	// TOS is of the packets that it is for, of all if 0.
	TOS int `json:"tos,omitempty"`
	// Flags are RTNH_F_*.
	Flags int `json:"flags,omitempty"`
	// MTU in bytes; 0 is the interface's. With MTULock it is not looked for a
	// smaller one on the way.
	MTU     int  `json:"mtu,omitempty"`
	MTULock bool `json:"mtuLock,omitempty"`
	// AdvMSS, HopLimit, InitCwnd and InitRwnd are RTAX_*; 0 is the kernel's
	// own.
	AdvMSS   int `json:"advMSS,omitempty"`
	HopLimit int `json:"hopLimit,omitempty"`
	InitCwnd int `json:"initCwnd,omitempty"`
	InitRwnd int `json:"initRwnd,omitempty"`
}

// Hop is one way of several that a route leads.
type Hop struct {
	Interface string     `json:"interface"`
	Gateway   netip.Addr `json:"gateway,omitzero"`
	// Weight is what it counts besides the others, less one (rtnh_hops).
	Weight int `json:"weight,omitempty"`
	// Flags are RTNH_F_*.
	Flags int `json:"flags,omitempty"`
}

// Neighbour is a permanent entry of an interface's neighbour table.
type Neighbour struct {
	Interface string     `json:"interface"`
	Address   netip.Addr `json:"address"`
	MAC       string     `json:"mac"`
}

// Limits of a Network, far beyond what has been seen.
const (
	maxInterfaces = 1 << 8
	maxAddresses  = 1 << 10
	maxRoutes     = 1 << 14

	maxVLAN = 4094
)

// NewNetworkRequest encodes n.
func NewNetworkRequest(n *Network) (*NetworkRequest, error) {
	p, err := json.Marshal(n)
	if err != nil {
		return nil, fmt.Errorf("encode network: %w", err)
	}
	return &NetworkRequest{Network: p}, nil
}

// ParseNetwork decodes what NewNetworkRequest made and checks it.
func ParseNetwork(r *NetworkRequest) (*Network, error) {
	var n Network
	if err := json.Unmarshal(r.GetNetwork(), &n); err != nil {
		return nil, fmt.Errorf("decode network: %w", err)
	}
	return &n, n.validate()
}

func (n *Network) validate() error {
	if len(n.Interfaces) > maxInterfaces || len(n.Routes) > maxRoutes || len(n.Rules) > maxRoutes || len(n.Neighbours) > maxRoutes || len(n.Loopback) > maxAddresses {
		return fmt.Errorf("network of %d interfaces, %d routes, %d rules, %d neighbours and %d addresses of the loopback interface is too large",
			len(n.Interfaces), len(n.Routes), len(n.Rules), len(n.Neighbours), len(n.Loopback))
	}
	devices, names := map[int]bool{}, map[string]bool{}
	for _, i := range n.Interfaces {
		if i.Name == "" || names[i.Name] {
			return fmt.Errorf("interface %q: name is bad, or there twice", i.Name)
		}
		if u := i.On; u != nil {
			if u.ID < 0 || u.ID > maxVLAN || !names[u.Parent] || u.Kind != KindVLAN && u.Kind != KindMACVLAN && u.Kind != KindIPVLAN {
				return fmt.Errorf("interface %s: %s %d of %q is none", i.Name, u.Kind, u.ID, u.Parent)
			}
		} else if i.NIC < 0 || i.NIC >= MaxNICs || devices[i.NIC] {
			return fmt.Errorf("interface %s on network device %d: number is bad, or there twice", i.Name, i.NIC)
		} else {
			devices[i.NIC] = true
		}
		if _, err := net.ParseMAC(i.MAC); err != nil {
			return fmt.Errorf("interface %s: %w", i.Name, err)
		}
		if len(i.Addresses) > maxAddresses {
			return fmt.Errorf("interface %s has %d addresses", i.Name, len(i.Addresses))
		}
		names[i.Name] = true
	}
	return nil
}
