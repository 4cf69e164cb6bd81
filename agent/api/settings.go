package api

import (
	"path/filepath"
	"strings"
)

// Settings are what can be set for each interface, by family and name, of what
// decides which packets come and go (Documentation/networking/ip-sysctl.rst), with
// what the guest's kernel begins with.
var Settings = map[string]string{
	"ipv4/accept_local": "0", "ipv4/accept_redirects": "1", "ipv4/arp_accept": "0", "ipv4/arp_announce": "0", "ipv4/arp_filter": "0",
	"ipv4/arp_ignore": "0", "ipv4/arp_notify": "0", "ipv4/forwarding": "0", "ipv4/promote_secondaries": "0", "ipv4/proxy_arp": "0",
	"ipv4/route_localnet": "0", "ipv4/rp_filter": "0", "ipv4/send_redirects": "1", "ipv4/src_valid_mark": "0",
	"ipv6/accept_ra": "1", "ipv6/accept_ra_defrtr": "1", "ipv6/accept_redirects": "1", "ipv6/autoconf": "1", "ipv6/disable_ipv6": "0",
	"ipv6/forwarding": "0", "ipv6/hop_limit": "64", "ipv6/ndisc_notify": "0", "ipv6/proxy_ndp": "0", "ipv6/use_tempaddr": "0",
}

// SettingPath is the file of an interface's setting in the namespace of who opens it.
func SettingPath(key, link string) string {
	family, name, _ := strings.Cut(key, "/")
	return filepath.Join("/proc/sys/net", family, "conf", link, name)
}
