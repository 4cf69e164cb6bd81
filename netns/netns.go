// Package netns gives the calling thread a network namespace of a container.
//
// A namespace belongs to a thread: callers lock theirs (runtime.LockOSThread)
// and never unlock it. What the thread starts is in the namespace too; other
// threads stay where they are.
package netns

import (
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Enter moves the calling thread into the namespace at path, or with an empty
// path into a new one.
func Enter(path string) error {
	if path == "" {
		return New()
	}
	return Join(path)
}

// New moves the calling thread into a new namespace with its loopback
// interface up.
func New() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("create network namespace: %w", err)
	}
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		return fmt.Errorf("bring loopback interface up: %w", err)
	}
	return nil
}

// Join moves the calling thread into the namespace at path, such as
// /run/netns/NAME or /proc/PID/ns/net.
func Join(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open network namespace %s: %w", path, err)
	}
	defer unix.Close(fd)
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("join network namespace %s: %w", path, err)
	}
	return nil
}
