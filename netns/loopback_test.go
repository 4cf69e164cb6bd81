package netns

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
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

// TestTooFewDescriptorsForALoopback runs out of them at each step of it.
func TestTooFewDescriptorsForALoopback(t *testing.T) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	inNewNamespace(t, func() {
		l, err := NewLoopback() // the library remembers what it could not open once
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		free, err := os.Open("/")
		if err != nil {
			t.Fatal(err)
		}
		first := uint64(free.Fd())
		free.Close()
		var last error
		for more := range uint64(20) {
			if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: first + more, Max: limit.Max}); err != nil {
				t.Fatal(err)
			}
			l, err := NewLoopback()
			if err == nil {
				if err := l.Close(); err != nil {
					t.Error(err)
				}
				if more == 0 {
					t.Error("no descriptor is enough")
				}
				return
			}
			if !errors.Is(err, unix.EMFILE) {
				t.Errorf("%d descriptors: %v", more, err)
			}
			last = err
		}
		t.Errorf("20 descriptors are not enough: %v", last)
	})
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
