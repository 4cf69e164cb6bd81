package netns

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/agent/api"
)

// The user-mode network, which is the same for every machine that has one.
const (
	UserSubnet     = "192.168.127.0/24"
	UserGateway    = "192.168.127.1" // also a DNS server
	UserGatewayMAC = "5a:94:ef:e4:0c:dd"
	UserAddress    = "192.168.127.2"
	UserMAC        = "5a:94:ef:e4:0c:ee"
	UserMTU        = 1500
)

// User describes the user-mode network to the guest. Its interface is network
// device 0.
func User() *api.Network {
	subnet := netip.MustParsePrefix(UserSubnet)
	return &api.Network{
		Nameservers: []netip.Addr{netip.MustParseAddr(UserGateway)},
		Interfaces: []api.Interface{{
			NIC: 0, Name: "eth0", MAC: UserMAC, MTU: UserMTU,
			Addresses: []api.Address{{Prefix: netip.PrefixFrom(netip.MustParseAddr(UserAddress), subnet.Bits())}},
		}},
		Routes: []api.Route{{
			Interface: "eth0", Type: unix.RTN_UNICAST, Protocol: unix.RTPROT_BOOT,
			Destination: netip.PrefixFrom(netip.IPv4Unspecified(), 0), Gateway: netip.MustParseAddr(UserGateway),
		}},
	}
}
