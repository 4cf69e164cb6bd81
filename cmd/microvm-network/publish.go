package main

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/microvm/microvm/netns/usernet"
)

// publication is a port of the guest that can be reached on the host.
type publication struct {
	host      string // HOST:PORT
	port      uint16 // the guest's
	datagrams bool
}

// publications are a flag's values.
type publications []publication

func (p *publications) String() string { return fmt.Sprint(*p) }

// Set adds one of the form HOST:PORT=PORT or HOST:PORT=PORT/udp.
func (p *publications) Set(s string) error {
	host, guest, ok := strings.Cut(s, "=")
	if !ok {
		return fmt.Errorf("%q is not of the form HOST:PORT=PORT", s)
	}
	if _, _, err := net.SplitHostPort(host); err != nil {
		return err
	}
	guest, datagrams := strings.CutSuffix(guest, "/udp")
	n, err := strconv.ParseUint(guest, 10, 16)
	if err != nil || n == 0 {
		return fmt.Errorf("%q is no port", guest)
	}
	*p = append(*p, publication{host, uint16(n), datagrams})
	return nil
}

// listen opens the host's side of all, and returns what serves them.
func (p publications) listen() (all []func(*usernet.Gateway), err error) {
	for _, one := range p {
		serve, err := one.listen()
		if err != nil {
			return nil, err
		}
		all = append(all, serve)
	}
	return all, nil
}

func (p publication) listen() (func(*usernet.Gateway), error) {
	if p.datagrams {
		c, err := net.ListenPacket("udp", p.host)
		return func(g *usernet.Gateway) { g.PublishDatagrams(c, p.port) }, err
	}
	l, err := net.Listen("tcp", p.host)
	return func(g *usernet.Gateway) { g.Publish(l, p.port) }, err
}
