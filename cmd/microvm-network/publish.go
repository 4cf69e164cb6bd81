package main

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

// publication is a port of the guest that can be reached on the host.
type publication struct {
	host string // HOST:PORT
	port uint16 // the guest's
}

// publications are a flag's values.
type publications []publication

func (p *publications) String() string { return fmt.Sprint(*p) }

// Set adds one of the form HOST:PORT=PORT.
func (p *publications) Set(s string) error {
	host, guest, ok := strings.Cut(s, "=")
	if !ok {
		return fmt.Errorf("%q is not of the form HOST:PORT=PORT", s)
	}
	if _, _, err := net.SplitHostPort(host); err != nil {
		return err
	}
	n, err := strconv.ParseUint(guest, 10, 16)
	if err != nil || n == 0 {
		return fmt.Errorf("%q is no port", guest)
	}
	*p = append(*p, publication{host, uint16(n)})
	return nil
}

// listen opens the host's side of all.
func (p publications) listen() ([]net.Listener, error) {
	var all []net.Listener
	for _, one := range p {
		l, err := net.Listen("tcp", one.host)
		if err != nil {
			return nil, err
		}
		all = append(all, l)
	}
	return all, nil
}
