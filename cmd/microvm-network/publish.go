package main

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/microvm/microvm/netns"
)

// publications are what the guest's ports are called on the host.
type publications map[string]string

func (p publications) String() string { return fmt.Sprint(map[string]string(p)) }

// Set adds one of the form HOST:PORT=PORT.
func (p publications) Set(s string) error {
	host, guest, ok := strings.Cut(s, "=")
	if !ok {
		return fmt.Errorf("%q is not of the form HOST:PORT=PORT", s)
	}
	if _, _, err := net.SplitHostPort(host); err != nil {
		return err
	}
	if n, err := strconv.ParseUint(guest, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%q is no port", guest)
	}
	p[host] = net.JoinHostPort(netns.UserAddress, guest)
	return nil
}
