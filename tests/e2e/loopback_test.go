package e2e

import (
	"bytes"
	"crypto/md5"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/netns"
	"github.com/microvm/microvm/tests/command"
	"github.com/microvm/microvm/tests/lab/labtest"
)

// insider makes connections from inside of a network namespace, as `nsenter` or
// a port-forward does.
type insider struct {
	t  *testing.T
	in *netns.Namespace
}

func newInsider(t *testing.T, path string) *insider {
	t.Helper()
	in, err := netns.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close() })
	return &insider{t, in}
}

func (i *insider) dial(address string) (c *net.TCPConn, err error) {
	err = i.in.Do(func() error {
		d := net.Dialer{Timeout: command.Patience}
		conn, err := d.Dial("tcp", address)
		if err == nil {
			c = conn.(*net.TCPConn)
			c.SetDeadline(time.Now().Add(command.Patience))
		}
		return err
	})
	return c, err
}

// ask sends p to address, ends that direction, and returns what comes back.
func (i *insider) ask(address string, p []byte) (string, error) {
	c, err := i.dial(address)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if _, err := c.Write(p); err != nil {
		return "", err
	}
	if err := c.CloseWrite(); err != nil {
		return "", err
	}
	got, err := io.ReadAll(c)
	return string(got), err
}

// awaits waits until the guest answers at address.
func (i *insider) awaits(address string) {
	i.t.Helper()
	command.Eventually(i.t, "the guest answers at "+address, func() bool {
		got, err := i.ask(address, nil)
		return err == nil && got != ""
	})
}

func TestLoopbackOfTheNamespace(t *testing.T) {
	labtest.SameOnBoth(t)
	n := newNeighbourhood(t)
	s := newSite(t)
	id, _, _ := s.detached(s.withProgram(s.bundle(sh("httpd -p 127.0.0.1:9002; exec "+programName+" sums :9001"), n.in)))
	i := newInsider(t, "/run/netns/"+n.name)
	i.awaits("127.0.0.1:9001")
	if got, err := i.ask("127.0.0.1:9002", []byte("GET /nothing HTTP/1.0\r\n\r\n")); !strings.Contains(got, "404") || err != nil {
		t.Errorf("server on the loopback interface only: %q, %v", got, err)
	}
	data := bytes.Repeat([]byte("loopback"), megabytes<<15)
	want := fmt.Sprintf("%x", md5.Sum(data))
	for _, address := range []string{"127.0.0.1:9001", "[::1]:9001", guestV4 + ":9001", "[" + guestV6 + "]:9001"} {
		if got, err := i.ask(address, data); got != want || err != nil {
			t.Errorf("%s: %q, %v, want %q", address, got, err, want)
		}
	}
	for _, address := range []string{"127.0.0.1:9003", "[::1]:9002"} {
		if got, err := i.ask(address, []byte("anybody?")); err == nil {
			t.Errorf("nobody listens on %s: %q", address, got)
		}
	}
	i.keepsOwn()
	i.many(200)
	s.command("delete", "--force", id).Output()
	if _, err := i.dial("127.0.0.1:9001"); err == nil {
		t.Error("connected after the container's end")
	}
	n.untouched()
}

// keepsOwn checks that a listener of the namespace's own is still reached.
func (i *insider) keepsOwn() {
	i.t.Helper()
	var own net.Listener
	if err := i.in.Do(func() (err error) {
		own, err = net.Listen("tcp", "127.0.0.1:9004")
		return err
	}); err != nil {
		i.t.Fatal(err)
	}
	defer own.Close()
	go func() {
		for {
			c, err := own.Accept()
			if err != nil {
				return
			}
			io.Copy(c, c)
			c.Close()
		}
	}()
	if got, err := i.ask("127.0.0.1:9004", []byte("own")); got != "own" || err != nil {
		i.t.Errorf("the namespace's own listener: %q, %v", got, err)
	}
}

// many has several connections at a time.
func (i *insider) many(count int) {
	i.t.Helper()
	var all sync.WaitGroup
	for k := range count {
		all.Go(func() {
			p := []byte(strings.Repeat(fmt.Sprint(k), 1000))
			if got, err := i.ask("127.0.0.1:9001", p); got != fmt.Sprintf("%x", md5.Sum(p)) || err != nil {
				i.t.Errorf("connection %d: %q, %v", k, got, err)
			}
		})
	}
	all.Wait()
}

// TestLoopbackOfKilledMonitor lets the namespace have its loopback interface
// back.
func TestLoopbackOfKilledMonitor(t *testing.T) {
	labtest.SameOnBoth(t)
	s := newSite(t)
	id, pid, _ := s.detached(s.withProgram(s.bundle([]string{programName, "sums", ":9001"})))
	i := newInsider(t, fmt.Sprintf("/proc/%d/ns/net", pid))
	i.awaits("127.0.0.1:9001")
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitPid(t, pid)
	if c, err := i.dial("127.0.0.1:9001"); err == nil {
		c.Close()
		t.Error("connected after the monitor's end")
	}
	s.command("delete", "--force", id).Output()
}
