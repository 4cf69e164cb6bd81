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
	// Routes are those that the kernel does not make by itself from the
	// addresses, in an order that they can be added in.
	Routes []Route `json:"routes,omitempty"`
	// Neighbours are permanent entries.
	Neighbours []Neighbour `json:"neighbours,omitempty"`
	// Nameservers are for ResolvConf.
	Nameservers []netip.Addr `json:"nameservers,omitempty"`
}

// Interface is a network interface, which one of the guest's network devices
// is to be.
type Interface struct {
	// NIC is the device, see NICAddress.
	NIC  int    `json:"nic"`
	Name string `json:"name"`
	MAC  string `json:"mac"`
	// MTU in bytes.
	MTU       int       `json:"mtu"`
	Addresses []Address `json:"addresses,omitempty"`
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
}

// Route is a route. Numbers are those of linux/rtnetlink.h.
type Route struct {
	// Interface is the name of the interface that it leads out of; routes of
	// other types than RTN_UNICAST may have none.
	Interface string `json:"interface,omitempty"`
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
	// Flags are RTNH_F_*.
	Flags int `json:"flags,omitempty"`
	// MTU in bytes; 0 is the interface's.
	MTU int `json:"mtu,omitempty"`
}

// Neighbour is a permanent entry of an interface's neighbour table.
type Neighbour struct {
	Interface string     `json:"interface"`
	Address   netip.Addr `json:"address"`
	MAC       string     `json:"mac"`
}

// Limits of a Network, far beyond what has been seen.
const (
	maxAddresses = 1 << 10
	maxRoutes    = 1 << 14
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
	if len(n.Interfaces) > MaxNICs || len(n.Routes) > maxRoutes || len(n.Neighbours) > maxRoutes {
		return fmt.Errorf("network of %d interfaces, %d routes and %d neighbours is too large", len(n.Interfaces), len(n.Routes), len(n.Neighbours))
	}
	devices, names := map[int]bool{}, map[string]bool{}
	for _, i := range n.Interfaces {
		if i.NIC < 0 || i.NIC >= MaxNICs || devices[i.NIC] || i.Name == "" || names[i.Name] {
			return fmt.Errorf("interface %q on network device %d: number or name is bad, or there twice", i.Name, i.NIC)
		}
		if _, err := net.ParseMAC(i.MAC); err != nil {
			return fmt.Errorf("interface %s: %w", i.Name, err)
		}
		if len(i.Addresses) > maxAddresses {
			return fmt.Errorf("interface %s has %d addresses", i.Name, len(i.Addresses))
		}
		devices[i.NIC], names[i.Name] = true, true
	}
	return nil
}
