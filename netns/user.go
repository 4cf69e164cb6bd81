package netns

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/agent/api"
)

// The user-mode network, which is the same for every machine that has one.
const (
	UserSubnet4    = "192.168.127.0/24"
	UserGateway4   = "192.168.127.1" // also a DNS server
	UserAddress4   = "192.168.127.2"
	UserSubnet6    = "fd6d:6963:726f::/64"
	UserGateway6   = "fd6d:6963:726f::1"
	UserAddress6   = "fd6d:6963:726f::2"
	UserGatewayMAC = "5a:94:ef:e4:0c:dd"
	UserMAC        = "5a:94:ef:e4:0c:ee"
	// UserMTU makes the most of each frame, none of which goes over a wire.
	UserMTU = 65520
)

// User describes the user-mode network to the guest. Its interface is network
// device 0.
func User() *api.Network {
	n := &api.Network{
		Nameservers: []netip.Addr{netip.MustParseAddr(UserGateway4)},
		Interfaces:  []api.Interface{{NIC: 0, Name: "eth0", MAC: UserMAC, MTU: UserMTU}},
	}
	for _, f := range []struct {
		subnet, address, gateway string
		all                      netip.Addr
		metric                   int // what the kernel makes of none
	}{
		{UserSubnet4, UserAddress4, UserGateway4, netip.IPv4Unspecified(), 0},
		{UserSubnet6, UserAddress6, UserGateway6, netip.IPv6Unspecified(), 1024},
	} {
		own := netip.PrefixFrom(netip.MustParseAddr(f.address), netip.MustParsePrefix(f.subnet).Bits())
		n.Interfaces[0].Addresses = append(n.Interfaces[0].Addresses, api.Address{Prefix: own})
		n.Routes = append(n.Routes, api.Route{
			Interface: "eth0", Type: unix.RTN_UNICAST, Protocol: unix.RTPROT_BOOT, Priority: f.metric,
			Destination: netip.PrefixFrom(f.all, 0), Gateway: netip.MustParseAddr(f.gateway),
		})
	}
	return n
}
