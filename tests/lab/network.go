package lab

import (
	"fmt"
	"net/netip"
	"os"

	"github.com/microvm/microvm/tests/lab/iface"
)

// checkNetwork tells what is wrong with a network for the host and a machine.
func checkNetwork(network netip.Prefix) error {
	if !network.Addr().Is4() || network.Bits() > 30 {
		return fmt.Errorf("network %s: one of IPv4 with room for two is wanted, such as 192.0.2.0/30", network)
	}
	return nil
}

// hostAddress and machineAddress are whose of a network is whose.
func hostAddress(network netip.Prefix) netip.Prefix {
	return netip.PrefixFrom(network.Masked().Addr().Next(), network.Bits())
}

func machineAddress(network netip.Prefix) netip.Prefix {
	return netip.PrefixFrom(hostAddress(network).Addr().Next(), network.Bits())
}

// newNetwork makes the host's end of a network.
func newNetwork(network netip.Prefix) (*os.File, error) {
	tap, name, err := iface.NewTap()
	if err != nil {
		return nil, err
	}
	if err := iface.Up(name, hostAddress(network)); err != nil {
		tap.Close()
		return nil, err
	}
	return tap, nil
}
