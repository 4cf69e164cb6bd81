package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Ports of the echo servers of all protocols, and of those for multicast groups.
const (
	echoPort  = 9100
	groupPort = 9101
)

// serveEcho answers over TCP and UDP, also to what is sent to all on the link
// and to two multicast groups.
func serveEcho([]string) error {
	tcp, err := net.Listen("tcp", fmt.Sprint(":", echoPort))
	if err != nil {
		return err
	}
	link, err := net.InterfaceByName("eth0")
	if err != nil {
		return err
	}
	failed := make(chan error)
	go func() { failed <- echoStreams(tcp) }()
	for _, group := range []string{"", "239.7.7.7", "ff02::7777"} {
		var c net.PacketConn
		if group == "" {
			c, err = net.ListenPacket("udp", fmt.Sprint(":", echoPort))
		} else {
			c, err = net.ListenMulticastUDP("udp", link, &net.UDPAddr{IP: net.ParseIP(group), Port: groupPort})
		}
		if err != nil {
			return fmt.Errorf("listen to %q: %w", group, err)
		}
		go func() { failed <- echoDatagrams(c) }()
	}
	return <-failed
}

func echoStreams(l net.Listener) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			io.Copy(c, c)
		}()
	}
}

func echoDatagrams(c net.PacketConn) error {
	p := make([]byte, 1<<16)
	for {
		n, from, err := c.ReadFrom(p)
		if err != nil {
			return err
		}
		if _, err := c.WriteTo(p[:n], from); err != nil {
			return err
		}
	}
}

// askEcho takes a protocol ("tcp", "udp", or "whole" for UDP in one piece), an
// address and a size, and wants its bytes back.
func askEcho(args []string) error {
	size, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	want := bytes.Repeat([]byte("echo"), size/4+1)[:size]
	for try := 0; ; try++ { // the server may just be starting, a datagram be lost
		got, err := askOnce(args[0], args[1], want)
		if err == nil && !bytes.Equal(got, want) {
			err = fmt.Errorf("%d bytes came back of %d", len(got), size)
		}
		if err == nil || try == 10 {
			return err
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func askOnce(protocol, address string, p []byte) ([]byte, error) {
	port := fmt.Sprint(":", echoPort)
	if protocol == "tcp" {
		c, err := net.Dial("tcp", address+port)
		if err != nil {
			return nil, err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(time.Minute))
		go func() {
			c.Write(p)
			c.(*net.TCPConn).CloseWrite()
		}()
		return io.ReadAll(c)
	}
	to, err := netip.ParseAddrPort(address + port)
	if to.Addr().IsMulticast() {
		port = fmt.Sprint(":", groupPort)
		to = netip.AddrPortFrom(to.Addr(), groupPort)
	}
	if err != nil {
		return nil, err
	}
	listen := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error { return wholly(c, protocol == "whole", to.Addr().Is4()) }}
	family := "udp6"
	if to.Addr().Is4() {
		family = "udp4"
	}
	c, err := listen.ListenPacket(context.Background(), family, ":0")
	if err != nil {
		return nil, err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(2 * time.Second))
	if _, err := c.WriteTo(p, net.UDPAddrFromAddrPort(to)); err != nil {
		return nil, err
	}
	got := make([]byte, 1<<16)
	n, from, err := c.ReadFrom(got)
	if err == nil && !strings.HasSuffix(from.String(), port) {
		err = errors.New("answer from " + from.String())
	}
	return got[:n], err
}

// wholly forbids the kernel to cut what is sent into fragments.
func wholly(c syscall.RawConn, whole, v4 bool) (err error) {
	if !whole {
		return nil
	}
	cerr := c.Control(func(fd uintptr) {
		if v4 {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO)
		} else {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DO)
		}
	})
	return errors.Join(cerr, err)
}
