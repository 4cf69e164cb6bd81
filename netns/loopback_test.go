package netns

import (
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// greetAll says name, and to whom, to each connection of l.
func greetAll(l net.Listener, name string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		io.WriteString(c, name+" "+c.LocalAddr().String())
		c.Close()
	}
}

// told is what is said to a connection to address from the calling thread.
func told(t *testing.T, address string) string {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	return heard(t, c)
}

func heard(t *testing.T, c net.Conn) string {
	t.Helper()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	text, err := io.ReadAll(c)
	if err != nil {
		t.Error(err)
	}
	return string(text)
}

func TestLoopbackTakesConnections(t *testing.T) {
	inNewNamespace(t, func() {
		near, _ := pair(t, "near", "far")
		address, err := netlink.ParseAddr("192.0.2.7/24")
		if err == nil {
			err = netlink.AddrAdd(near, address)
		}
		if err != nil {
			t.Fatal(err)
		}
		own := map[string]net.Listener{}
		for _, a := range []string{"127.0.0.1:80", "[::1]:80", "127.0.0.11:53"} {
			if own[a], err = net.Listen("tcp", a); err != nil {
				t.Fatal(err)
			}
			defer own[a].Close()
			go greetAll(own[a], "own")
		}
		l, err := NewLoopback()
		if err != nil {
			t.Fatal(err)
		}
		for _, listener := range l.Listeners() {
			go greetAll(listener, "taken")
		}
		for a, want := range map[string]string{
			"127.0.0.1:80": "taken 127.0.0.1:80", "[::1]:80": "taken [::1]:80", "127.0.0.1:8080": "taken 127.0.0.1:8080",
			"192.0.2.7:443": "taken 192.0.2.7:443", "127.0.0.11:53": "own 127.0.0.11:53",
		} {
			if got := told(t, a); got != want {
				t.Errorf("%s: %q, want %q", a, got, want)
			}
		}
		for _, a := range []string{"127.0.0.1:80", "[::1]:80"} {
			c, err := l.Own(netip.MustParseAddrPort(a))
			if err != nil {
				t.Fatal(err)
			}
			if got := heard(t, c); got != "own "+a {
				t.Errorf("past the loopback: %q", got)
			}
			c.Close()
		}
		if c, err := l.Own(netip.MustParseAddrPort("127.0.0.1:81")); err == nil {
			c.Close()
			t.Error("there is a listener of nobody")
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if got := told(t, "127.0.0.1:80"); got != "own 127.0.0.1:80" {
			t.Errorf("afterwards: %q", got)
		}
	})
}
