// The Go runtime is not to keep files of the cgroup open.
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command microvm-network is the user-mode network of one machine: it takes the
// guest's Ethernet frames and makes them connections of its own, so that the
// guest reaches what this process reaches, without rights over any interface.
//
//	microvm-network --socket FD [--ready FD] [--publish HOST:PORT=PORT[/udp]]...
//
// The socket is a SOCK_SEQPACKET socket that carries one frame a packet; the
// process ends with its other end. One byte is written to the descriptor ready
// when the published ports are open and the process is in its jail, see
// [jail.Jail.EnterNetwork]; it is to be started as control.Namespaces says.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/microvm/microvm/netns/usernet"
	"github.com/microvm/microvm/vmm/jail"
)

func main() {
	socket := flag.Int("socket", 0, "`descriptor` of the socket with the guest's frames")
	ready := flag.Int("ready", 0, "`descriptor` to write to when all is set up")
	var ports publications
	flag.Var(&ports, "publish", "`HOST:PORT=PORT`: connections to this address of the host go to that port of the guest, or datagrams with /udp behind it; repeatable")
	flag.Parse()
	if err := run(*socket, *ready, ports); err != nil {
		fmt.Fprintln(os.Stderr, "microvm-network:", err)
		os.Exit(1)
	}
}

func run(socket, ready int, ports publications) error {
	inherited, err := jail.Inherited()
	if err != nil {
		return err
	}
	published, err := ports.listen()
	if err != nil {
		return err
	}
	j, err := jail.Prepare(inherited, []int{socket, ready})
	if err != nil {
		return err
	}
	gateway, err := usernet.New(socket)
	if err != nil {
		return err
	}
	if err := j.EnterNetwork(usernet.Directories()); err != nil {
		return err
	}
	for _, serve := range published {
		go serve(gateway)
	}
	if ready != 0 {
		r := os.NewFile(uintptr(ready), "ready")
		if _, err := r.Write([]byte{1}); err != nil {
			return fmt.Errorf("tell that all is set up: %w", err)
		}
		r.Close()
	}
	<-gateway.Gone()
	return nil
}
