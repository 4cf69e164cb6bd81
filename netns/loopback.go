package netns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Loopback takes the TCP connections that reach a namespace's own stack: those
// made inside of it to 127.0.0.1, ::1, and the addresses of its interfaces. It
// leaves the rest of 127.0.0.0/8 alone, where engines serve names. It ends with
// this process, however that ends.
type Loopback struct {
	lookup    link.Link
	sockets   *ebpf.Map // the listeners, see catch
	spared    *ebpf.Map // the ports that Own dials from
	listeners []*net.TCPListener
}

// NewLoopback begins to take connections in the calling thread's namespace.
func NewLoopback() (_ *Loopback, err error) {
	l := &Loopback{}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("take over the namespace's loopback interface: %w", err), l.Close())
		}
	}()
	if l.sockets, err = ebpf.NewMap(&ebpf.MapSpec{Name: "microvm_socks", Type: ebpf.SockMap, KeySize: 4, ValueSize: 8, MaxEntries: families}); err != nil {
		return nil, err
	}
	if l.spared, err = ebpf.NewMap(&ebpf.MapSpec{Name: "microvm_spared", Type: ebpf.Hash, KeySize: 4, ValueSize: 1, MaxEntries: 1 << 10}); err != nil {
		return nil, err
	}
	if err := l.listen(); err != nil {
		return nil, err
	}
	l.lookup, err = catch(l.sockets, l.spared)
	return l, err
}

// listen makes a listener of each family that the namespace has.
func (l *Loopback) listen() error {
	var plain net.ListenConfig
	plain.SetMultipathTCP(false) // the map takes no others
	for key, address := range map[uint32]string{keyV4: "127.0.0.1:0", keyV6: "[::1]:0"} {
		listener, err := plain.Listen(context.Background(), "tcp", address)
		if errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.EAFNOSUPPORT) {
			continue
		}
		if err != nil {
			return err
		}
		tcp := listener.(*net.TCPListener)
		l.listeners = append(l.listeners, tcp)
		if err := l.enter(key, tcp); err != nil {
			return err
		}
	}
	if len(l.listeners) == 0 {
		return errors.New("it has no address")
	}
	return nil
}

func (l *Loopback) enter(key uint32, listener *net.TCPListener) error {
	raw, err := listener.SyscallConn()
	if err != nil {
		return err
	}
	cerr := raw.Control(func(fd uintptr) { err = l.sockets.Put(key, uint64(fd)) })
	return errors.Join(cerr, err)
}

// Listeners have the connections, whose LocalAddr is where they were made to.
// They are l's.
func (l *Loopback) Listeners() []*net.TCPListener { return l.listeners }

// Own connects to the listener that the namespace itself has at an address of
// its own. It is to be called on a thread in the namespace.
func (l *Loopback) Own(to netip.AddrPort) (*net.TCPConn, error) {
	family, near, far := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Sockaddr(nil)
	if to.Addr().Is4() {
		far = &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	} else {
		family, near = unix.AF_INET6, &unix.SockaddrInet6{Addr: netip.IPv6Loopback().As16()}
		far = &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", to, err)
	}
	f := os.NewFile(uintptr(fd), "own")
	defer f.Close()
	if err := l.connect(fd, near, far); err != nil {
		return nil, fmt.Errorf("dial %s: %w", to, err)
	}
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", to, err)
	}
	return c.(*net.TCPConn), nil
}

// connect connects from a port that is spared.
func (l *Loopback) connect(fd int, near, far unix.Sockaddr) error {
	if err := unix.Bind(fd, near); err != nil {
		return err
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		return err
	}
	key := spareKey(bound)
	if err := l.spared.Put(key, uint8(1)); err != nil {
		return err
	}
	defer l.spared.Delete(key)
	return unix.Connect(fd, far)
}

// Close lets the namespace have its connections again, but for those that are
// accepted already.
func (l *Loopback) Close() error {
	var all []error
	if l.lookup != nil {
		all = append(all, l.lookup.Close())
	}
	for _, listener := range l.listeners {
		all = append(all, listener.Close())
	}
	for _, m := range []*ebpf.Map{l.sockets, l.spared} {
		if m != nil {
			all = append(all, m.Close())
		}
	}
	return errors.Join(all...)
}
