package net

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Offloads of a tap (linux/if_tun.h): what it may hand to its reader.
const (
	tunCSUM   = 0x01 // TUN_F_CSUM
	tunTSO4   = 0x02 // TUN_F_TSO4
	tunTSO6   = 0x04 // TUN_F_TSO6
	tunTSOECN = 0x08 // TUN_F_TSO_ECN
)

// setUpTap has the tap make headers of version 1 and hand over only what the
// driver said it can take.
func setUpTap(fd int, features uint64) error {
	if err := unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, headerSize); err != nil {
		return fmt.Errorf("set up tap: set size of its header: %w", err)
	}
	if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, tapOffloads(features)); err != nil {
		return fmt.Errorf("set up tap: set offloads: %w", err)
	}
	return nil
}

// attachQueue has a tap's queue take part in its traffic, or not.
func attachQueue(fd int, on bool) error {
	req, err := unix.NewIfreq("")
	if err != nil {
		return err
	}
	flags := uint16(unix.IFF_DETACH_QUEUE)
	if on {
		flags = unix.IFF_ATTACH_QUEUE
	}
	req.SetUint16(flags)
	return unix.IoctlIfreq(fd, unix.TUNSETQUEUE, req)
}

func tapOffloads(features uint64) (offload int) {
	if features&featureGuestCSUM == 0 {
		return 0 // the others need it
	}
	offload = tunCSUM
	for feature, bit := range map[uint64]int{featureGuestTSO4: tunTSO4, featureGuestTSO6: tunTSO6, featureGuestECN: tunTSOECN} {
		if features&feature != 0 {
			offload |= bit
		}
	}
	return offload
}
