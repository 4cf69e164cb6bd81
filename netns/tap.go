package netns

import (
	"errors"
	"fmt"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// tapPrefix starts the names of all taps; the rest is the index of the
// interface that it stands in for.
const tapPrefix = "microvm"

// genModeNone is IN6_ADDR_GEN_MODE_NONE (linux/if_link.h).
const genModeNone = 1

// Tap is a tap in a namespace that gets all that an interface there receives,
// and whose own frames leave by that interface. The namespace's own stack sees
// nothing of it.
type Tap struct {
	queues []*os.File
	cut    func() error
}

// NewTap puts a tap with so many queues, at least one, before the interface called
// name with the given index in the calling thread's namespace.
func NewTap(index int, name string, queues int) (_ *Tap, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("connect interface %s to a tap: %w", name, err)
		}
	}()
	link, err := netlink.LinkByIndex(index)
	if err != nil {
		return nil, err
	}
	tapName := fmt.Sprint(tapPrefix, index)
	t := &Tap{}
	if err := t.open(tapName, max(1, queues)); err != nil {
		return nil, err
	}
	if t.cut, err = joinTap(tapName, link); err != nil {
		return nil, errors.Join(err, t.closeQueues())
	}
	return t, nil
}

// open makes the tap. One of another machine's is not opened.
func (t *Tap) open(name string, queues int) error {
	flags := uint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if queues > 1 {
		flags |= unix.IFF_MULTI_QUEUE
	}
	for how := flags | unix.IFF_TUN_EXCL; len(t.queues) < queues; how = flags {
		f, err := openQueue(name, how)
		if err != nil {
			return errors.Join(err, t.closeQueues())
		}
		t.queues = append(t.queues, f)
	}
	return nil
}

func (t *Tap) closeQueues() (err error) {
	for _, f := range t.queues {
		err = errors.Join(err, f.Close())
	}
	return err
}

// openQueue makes a tap, or one more queue of it, which is gone when the file and its
// copies are closed.
func openQueue(name string, flags uint16) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w: is the tun module loaded?", err)
	}
	req, err := unix.NewIfreq(name)
	if err == nil {
		req.SetUint16(flags)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		unix.Close(fd)
		if errors.Is(err, unix.EBUSY) {
			err = fmt.Errorf("%w: another machine has this network namespace: each needs its own", err)
		}
		return nil, fmt.Errorf("make tap %s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil // now: before, it cannot be polled
}

func joinTap(name string, link netlink.Link) (cut func() error, err error) {
	tap, err := netlink.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("find tap %s: %w", name, err)
	}
	// Nobody talks to the tap itself. Without IPv6 it has no address anyway.
	_ = netlink.LinkSetIP6AddrGenMode(tap, genModeNone)
	if err := netlink.LinkSetMTU(tap, link.Attrs().MTU); err != nil {
		return nil, fmt.Errorf("set MTU of tap: %w", err)
	}
	if err := netlink.LinkSetUp(tap); err != nil {
		return nil, fmt.Errorf("bring tap up: %w", err)
	}
	return redirectBoth(link.Attrs().Index, tap.Attrs().Index)
}

// redirectBoth redirects each interface's arrivals to the other. Where the
// kernel has tcx (6.6 and later), the redirection ends with this process,
// however it ends; else it is a traffic-control filter, which cut removes.
func redirectBoth(a, b int) (cut func() error, err error) {
	cut, err = redirectTCX(a, b)
	if err == nil {
		return cut, nil
	}
	cut, terr := redirectTC(a, b)
	if terr != nil {
		return nil, fmt.Errorf("redirect frames: with tcx: %w; with traffic control: %w: are the modules sch_ingress, cls_u32 and act_mirred there?", err, terr)
	}
	return cut, nil
}

// Files are the tap's queues; they stay t's.
func (t *Tap) Files() []*os.File { return t.queues }

// Close ends the redirection and the tap. It is to be called on a thread in the
// tap's namespace.
func (t *Tap) Close() error { return errors.Join(t.cut(), t.closeQueues()) }
