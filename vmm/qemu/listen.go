package qemu

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/vmm/virtio"
	"github.com/microvm/microvm/vmm/virtio/vhostuser"
)

// listener is a socket that QEMU connects to by name. Its network devices pass
// descriptors only over such sockets, not over one that it was handed.
type listener struct {
	*net.UnixListener
	name string // in the abstract namespace, without the leading zero byte
}

func listen() (*listener, error) {
	name := "microvm-" + rand.Text()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: "@" + name})
	if err != nil {
		return nil, fmt.Errorf("listen for QEMU: %w", err)
	}
	return &listener{l, name}, nil
}

// acceptFrom returns the connection of the process pid. Others that find the
// name are turned away.
func (l *listener) acceptFrom(pid int) (*os.File, error) {
	defer l.Close()
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, fmt.Errorf("accept QEMU's connection: %w", err)
		}
		f, err := c.File()
		c.Close()
		if err != nil {
			return nil, fmt.Errorf("accept QEMU's connection: %w", err)
		}
		peer, err := unix.GetsockoptUcred(int(f.Fd()), unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err == nil && int(peer.Pid) == pid {
			return f, unix.SetNonblock(int(f.Fd()), true)
		}
		f.Close()
	}
}

// attachNet makes a server for d, a network device, and adds its front end to c.
func (m *Machine) attachNet(c *command, i int, d virtio.Device) error {
	l, err := listen()
	if err != nil {
		return err
	}
	m.mu.Lock()
	m.listeners = append(m.listeners, l)
	m.mu.Unlock()
	c.network(fmt.Sprintf("device%d", i), d, l.name)
	m.workers.Go(func() {
		<-m.spawned
		if m.process == nil {
			return
		}
		f, err := l.acceptFrom(m.PID())
		if errors.Is(err, net.ErrClosed) {
			return // QEMU is gone
		}
		var s *vhostuser.Server
		if err == nil {
			s, err = m.server(f, d)
		}
		if err == nil {
			err = serve(s, d)
		}
		if err != nil {
			m.fail(err)
		}
	})
	return nil
}
