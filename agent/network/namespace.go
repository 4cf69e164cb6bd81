package network

import (
	"fmt"
	"net"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/agent/api"
)

// namespace is an open network namespace.
type namespace struct{ f *os.File }

func openNamespace(path string) (namespace, error) {
	f, err := os.Open(path)
	if err != nil {
		return namespace{}, fmt.Errorf("open network namespace: %w", err)
	}
	return namespace{f}, nil
}

// thisNamespace is the calling thread's.
const thisNamespace = "/proc/thread-self/ns/net"

// onThread calls f on a thread that ends with it.
func onThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked
		done <- f()
	}()
	return <-done
}

// newNamespace makes a namespace whose loopback interface is up, and pins it at
// path.
func newNamespace(path string) (n namespace, err error) {
	pin, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0)
	if err != nil {
		return n, fmt.Errorf("create network namespace: %w", err)
	}
	pin.Close()
	err = onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		if err := unix.Mount(thisNamespace, path, "", unix.MS_BIND, ""); err != nil {
			return err
		}
		lo, err := netlink.LinkByName("lo")
		if err == nil {
			err = netlink.LinkSetUp(lo)
		}
		return err
	})
	if err != nil {
		return n, fmt.Errorf("create network namespace: %w", err)
	}
	return openNamespace(path)
}

// do calls f in the namespace.
func (n namespace) do(f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(n.f.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("join network namespace: %w", err)
		}
		return f()
	})
}

// take moves link, of the calling thread's namespace, here and calls it name.
// What it was configured with is gone then.
func (n namespace) take(link netlink.Link, name string) error {
	old := link.Attrs().Name
	if link.Attrs().Flags&net.FlagUp != 0 {
		if err := netlink.LinkSetDown(link); err != nil {
			return fmt.Errorf("take interface %s down: %w", old, err)
		}
	}
	if old != name {
		if err := netlink.LinkSetName(link, name); err != nil {
			return fmt.Errorf("rename interface %s to %s: %w", old, name, err)
		}
	}
	if err := netlink.LinkSetNsFd(link, int(n.f.Fd())); err != nil {
		_ = netlink.LinkSetName(link, old)
		return fmt.Errorf("move interface %s: %w", name, err)
	}
	return nil
}

// deviceName is what device i is called while it is no interface: nothing that a
// container would call one.
func deviceName(i int) string { return fmt.Sprint("nic", i) }

// nameDevices names the devices of the calling thread's namespace by their
// number and returns how many there are.
func nameDevices() (int, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return 0, fmt.Errorf("list network interfaces: %w", err)
	}
	found := 0
	for _, l := range links {
		for i := range api.MaxNICs {
			if l.Attrs().HardwareAddr.String() != api.NICAddress(i).String() {
				continue
			}
			if err := netlink.LinkSetName(l, deviceName(i)); err != nil {
				return found, fmt.Errorf("rename interface %s: %w", l.Attrs().Name, err)
			}
			found++
		}
	}
	return found, nil
}
