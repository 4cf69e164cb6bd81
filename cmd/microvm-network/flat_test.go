package main

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"

	"github.com/microvm/microvm/netns"
)

// TestManyFlowsLeaveNothing has a guest make connections, end them in each of the ways
// that there are, ping, and send datagrams, many times: the process takes no more memory
// and descriptors than after the first of them. MICROVM_LONG=1 makes it twenty times as
// many.
func TestManyFlowsLeaveNothing(t *testing.T) {
	w := newWorld(t)
	w.pingers("0 2147483647")
	port := w.echoes()
	g := w.newGuest()
	rounds, connections := 8, 150
	if os.Getenv("MICROVM_LONG") != "" {
		rounds = 160
	}
	var took []usage
	for range rounds {
		for i := range connections {
			g.useOnce(port, i)
		}
		for range 20 {
			for _, a := range worlds {
				if err := g.ping(a, 1000); err != nil {
					t.Fatalf("ping of %s: %v", a, err)
				}
			}
		}
		g.exchange(port)
		time.Sleep(200 * time.Millisecond) // for the last ones to be forgotten
		took = append(took, usageOf(t, g.pid))
		t.Logf("%+v", took[len(took)-1])
	}
	early, late := took[2:4], took[len(took)-2:]
	if a, b := min(early[0].KiB, early[1].KiB), min(late[0].KiB, late[1].KiB); b > a+4<<10 {
		t.Errorf("memory grows from %d to %d KiB", a, b)
	}
	if a, b := min(early[0].descriptors, early[1].descriptors), min(late[0].descriptors, late[1].descriptors); b > a+8 {
		t.Errorf("descriptors grow from %d to %d", a, b)
	}
}

// useOnce makes a connection and ends it in one of several ways.
func (g *guest) useOnce(port uint16, way int) {
	g.t.Helper()
	a := worlds[way%len(worlds)]
	if way%10 == 9 { // to where nobody listens
		if c, err := g.dial(a, port+1); err == nil {
			c.Close()
			g.t.Fatal("somebody listens")
		}
		return
	}
	c, err := g.dial(a, port)
	if err != nil {
		g.t.Fatal(err)
	}
	defer c.Close()
	said := strings.Repeat("x", 2000)
	_, err = io.WriteString(c, said)
	if err == nil && way%3 > 0 { // or the answer stays unread
		_, err = io.ReadFull(c, make([]byte, len(said)))
	}
	if err == nil && way%3 == 2 { // the other side ends first
		err = c.(*gonet.TCPConn).CloseWrite()
		if err == nil {
			_, err = io.Copy(io.Discard, c)
		}
	}
	if err != nil {
		g.t.Fatal(err)
	}
}

// exchange sends datagrams from one port, which are one flow.
func (g *guest) exchange(port uint16) {
	g.t.Helper()
	from, to := full(netip.MustParseAddr(netns.UserAddress4), 5000), full(worlds[0], port)
	u, err := gonet.DialUDP(g.stack, &from, &to, family(worlds[0]))
	if err != nil {
		g.t.Fatal(err)
	}
	defer u.Close()
	_ = u.SetDeadline(time.Now().Add(20 * time.Second))
	for range 100 {
		_, err := u.Write(make([]byte, 500))
		if err == nil {
			_, err = u.Read(make([]byte, 500))
		}
		if err != nil {
			g.t.Fatal(err)
		}
	}
}

// usage is what a process takes.
type usage struct{ KiB, descriptors, threads int }

func usageOf(t *testing.T, pid int) (u usage) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		fmt.Sscanf(line, "RssAnon: %d kB", &u.KiB)
		fmt.Sscanf(line, "Threads: %d", &u.threads)
	}
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	u.descriptors = len(entries)
	return u
}
