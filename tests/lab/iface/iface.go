// Package iface sets network interfaces up by hand, for both halves of the lab: the
// net package would link the resolver of libc into the program that is its init.
package iface

import (
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// Up brings an interface up, with an address of IPv4 in its network if that is valid.
func Up(name string, address netip.Prefix) error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open socket: %w", err)
	}
	defer unix.Close(socket)
	if address.IsValid() {
		if err := setAddress(socket, name, address); err != nil {
			return fmt.Errorf("give %s the address %s: %w", name, address, err)
		}
	}
	request, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	err = unix.IoctlIfreq(socket, unix.SIOCGIFFLAGS, request)
	if err == nil {
		request.SetUint16(request.Uint16() | unix.IFF_UP)
		err = unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, request)
	}
	if err != nil {
		return fmt.Errorf("bring up %s: %w", name, err)
	}
	return nil
}

// setAddress sets the address first: its mask belongs to it.
func setAddress(socket int, name string, address netip.Prefix) error {
	ip := address.Addr().As4()
	if err := setInet4(socket, unix.SIOCSIFADDR, name, ip[:]); err != nil {
		return err
	}
	return setInet4(socket, unix.SIOCSIFNETMASK, name, mask(address.Bits()))
}

func setInet4(socket int, what uint, name string, value []byte) error {
	request, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	if err := request.SetInet4Addr(value); err != nil {
		return err
	}
	return unix.IoctlIfreq(socket, what, request)
}

// mask has that many bits set, the first ones.
func mask(bits int) []byte {
	all := ^uint32(0) << (32 - bits)
	return []byte{byte(all >> 24), byte(all >> 16), byte(all >> 8), byte(all)}
}

// NewTap makes a tap that is gone when the file and its copies are closed. The kernel
// picks its name.
func NewTap() (tap *os.File, name string, err error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, "", fmt.Errorf("make tap: %w: is the tun module loaded?", err)
	}
	tap = os.NewFile(uintptr(fd), "tap")
	request, err := unix.NewIfreq("lab%d")
	if err == nil {
		request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		tap.Close()
		return nil, "", fmt.Errorf("make tap: %w", err)
	}
	return tap, request.Name(), nil
}
