package usernet

import (
	"net/netip"
	"testing"
)

// TestOutside keeps a guest from what is the host's own.
func TestOutside(t *testing.T) {
	for _, a := range []string{"10.99.0.1", "1.1.1.1", "fd99::1", "2001:db8::1"} {
		if !outside(netip.MustParseAddr(a)) {
			t.Errorf("%s is not reached", a)
		}
	}
	for _, a := range []string{
		"127.0.0.1", "127.0.0.53", "0.0.0.0", "255.255.255.255", "224.0.0.1", "169.254.169.254", "192.168.127.1", "192.168.127.77",
		"::1", "::", "::ffff:127.0.0.1", "::ffff:10.99.0.1", "fe80::1", "ff02::1", "fd6d:6963:726f::1",
	} {
		if outside(netip.MustParseAddr(a)) {
			t.Errorf("%s is reached", a)
		}
	}
}
