package network

import (
	"fmt"
	"runtime"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/agent/api"
)

// attic is a network namespace for devices that are no interface yet, where
// containers do not see them.
type attic struct {
	fd     int // of the namespace
	home   int // of the namespace that the containers are in
	handle *netlink.Handle
}

// openAttic makes the namespace; it lasts as long as its descriptor.
func openAttic() (*attic, error) {
	a := &attic{fd: -1}
	home, err := openNamespace()
	if err != nil {
		return nil, err
	}
	a.home = home
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		made <- func() (err error) {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("create network namespace: %w", err)
			}
			if a.fd, err = openNamespace(); err != nil {
				return err
			}
			a.handle, err = netlink.NewHandle(unix.NETLINK_ROUTE)
			return err
		}()
	}()
	return a, <-made
}

// openNamespace opens the calling thread's network namespace.
func openNamespace() (int, error) {
	fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open network namespace: %w", err)
	}
	return fd, nil
}

// atticName is what device i is called there.
func atticName(i int) string { return fmt.Sprintf("nic%d", i) }

// fill brings every network device of the host's making up here and returns
// how many there are.
func (a *attic) fill() (int, error) {
	found := 0
	for i := range api.MaxNICs {
		link, err := byAddress(api.NICAddress(i).String())
		if err != nil {
			return found, err
		}
		if link == nil {
			return found, nil
		}
		if err := a.take(link, i); err != nil {
			return found, err
		}
		found++
	}
	return found, nil
}

func byAddress(mac string) (netlink.Link, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list network interfaces: %w", err)
	}
	for _, l := range links {
		if l.Attrs().HardwareAddr.String() == mac {
			return l, nil
		}
	}
	return nil, nil
}

// take moves link, which is device i, up here. What it was configured with is
// gone then.
func (a *attic) take(link netlink.Link, i int) error {
	if err := netlink.LinkSetDown(link); err != nil {
		return fmt.Errorf("take interface %s down: %w", link.Attrs().Name, err)
	}
	if err := netlink.LinkSetName(link, atticName(i)); err != nil {
		return fmt.Errorf("rename interface %s: %w", link.Attrs().Name, err)
	}
	if err := netlink.LinkSetNsFd(link, a.fd); err != nil {
		return fmt.Errorf("put interface %s away: %w", link.Attrs().Name, err)
	}
	return nil
}

// give moves device i to the containers as an interface called name.
func (a *attic) give(i int, name string) (netlink.Link, error) {
	link, err := a.handle.LinkByName(atticName(i))
	if err != nil {
		return nil, fmt.Errorf("find network device %d: %w", i, err)
	}
	// Its old name may be taken there.
	if err := a.handle.LinkSetName(link, name); err != nil {
		return nil, fmt.Errorf("rename network device %d to %s: %w", i, name, err)
	}
	if err := a.handle.LinkSetNsFd(link, a.home); err != nil {
		_ = a.handle.LinkSetName(link, atticName(i))
		return nil, fmt.Errorf("bring up interface %s: %w", name, err)
	}
	return netlink.LinkByName(name)
}
