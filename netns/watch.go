package netns

import (
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Watch returns a channel that gets a value after something was changed in the
// calling thread's namespace: interfaces, addresses, neighbours, routes or
// rules. Several changes may make one value. It is closed when stop is, or when the kernel ends it.
func Watch(stop <-chan struct{}) (<-chan struct{}, error) {
	groups := []uint{
		unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
		unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_NEIGH,
		unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE,
	}
	s, err := nl.Subscribe(unix.NETLINK_ROUTE, groups...)
	if err != nil {
		return nil, fmt.Errorf("watch network namespace: %w", err)
	}
	changed := make(chan struct{}, 1)
	go func() {
		<-stop
		s.Close()
	}()
	go func() {
		defer close(changed)
		for {
			// A full queue (ENOBUFS) has lost changes: there were some.
			if _, _, err := s.Receive(); err != nil && err != unix.ENOBUFS {
				return
			}
			select {
			case changed <- struct{}{}:
			default:
			}
		}
	}()
	return changed, nil
}
