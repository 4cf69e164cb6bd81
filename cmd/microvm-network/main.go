// Command microvm-network is the user-mode network of one machine: it takes the
// guest's Ethernet frames and makes them connections of its own, so that the
// guest reaches what this process reaches, without rights over any interface.
//
//	microvm-network --socket FD [--ready FD] [--publish HOST:PORT=PORT]...
//
// The socket is a SOCK_SEQPACKET socket that carries one frame a packet; the
// process ends with its other end. One byte is written to the descriptor ready
// when the published ports are open. Started by root, it goes on as nobody.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"github.com/containers/gvisor-tap-vsock/pkg/types"
	"github.com/containers/gvisor-tap-vsock/pkg/virtualnetwork"
	"github.com/sirupsen/logrus"

	"github.com/microvm/microvm/netns"
)

func main() {
	socket := flag.Int("socket", 0, "`descriptor` of the socket with the guest's frames")
	ready := flag.Int("ready", 0, "`descriptor` to write to when all is set up")
	forwards := publications{}
	flag.Var(forwards, "publish", "`HOST:PORT=PORT`: connections to this address of the host go to that port of the guest; repeatable")
	flag.Parse()
	// What the library says about single connections is noise to others.
	logrus.SetLevel(logrus.FatalLevel)
	if err := run(*socket, *ready, forwards); err != nil {
		fmt.Fprintln(os.Stderr, "microvm-network:", err)
		os.Exit(1)
	}
}

func run(fd, ready int, forwards map[string]string) error {
	f := os.NewFile(uintptr(fd), "frames")
	conn, err := net.FileConn(f)
	if err != nil {
		return fmt.Errorf("open socket %d: %w", fd, err)
	}
	f.Close()
	network, err := virtualnetwork.New(&types.Configuration{
		MTU: netns.UserMTU, Subnet: netns.UserSubnet, GatewayIP: netns.UserGateway, GatewayMacAddress: netns.UserGatewayMAC,
		Forwards: forwards,
	})
	if err != nil {
		return err
	}
	if err := dropPrivileges(); err != nil {
		return err
	}
	if ready != 0 {
		r := os.NewFile(uintptr(ready), "ready")
		if _, err := r.Write([]byte{1}); err != nil {
			return fmt.Errorf("tell that all is set up: %w", err)
		}
		r.Close()
	}
	if err := network.AcceptBess(context.Background(), conn); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("carry frames: %w", err)
	}
	return nil
}

// nobody owns nothing.
const nobody = 65534

// dropPrivileges gives up what root can do: connections need none of it.
func dropPrivileges() error {
	if os.Geteuid() != 0 {
		return nil
	}
	if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(nobody), syscall.Setuid(nobody)); err != nil {
		return fmt.Errorf("become nobody: %w", err)
	}
	return nil
}
