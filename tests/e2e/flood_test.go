package e2e

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/microvm/microvm/tests/lab/labtest"
)

// takeDatagrams reads datagrams to a port as they come.
func takeDatagrams(args []string) error {
	c, err := net.ListenPacket("udp4", ":"+args[0])
	if err != nil {
		return err
	}
	fmt.Println("ready")
	p := make([]byte, 2048)
	for {
		if _, _, err := c.ReadFrom(p); err != nil {
			return err
		}
	}
}

// TestFlood sends more datagrams than a guest can take, whose programs are to get
// some of the time, and of the datagrams.
func TestFlood(t *testing.T) {
	labtest.SameOnBoth(t)
	n := newNeighbourhood(t)
	s := newSite(t)
	id, _, stdout := s.detached(s.withProgram(s.bundle([]string{programName, "datagrams", "9300"}, n.in)))
	eventually(t, "the program listens", func() bool { return read(t, stdout) == "ready\n" })
	peer := newInsider(t, "/run/netns/"+n.peer)
	var c net.Conn
	err := peer.in.Do(func() (err error) {
		c, err = net.Dial("udp4", guestV4+":9300")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	sent := 0
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); sent++ {
		c.Write(make([]byte, 64))
	}
	var taken, lost int
	for l := range strings.Lines(s.command("exec", id, "cat", "/proc/net/snmp").mustRun()) {
		if f := strings.Fields(l); f[0] == "Udp:" && f[1] != "InDatagrams" {
			fmt.Sscan(f[1], &taken)
			fmt.Sscan(f[5], &lost) // as the program did not come to take them
		}
	}
	if t.Logf("sent %d, in the guest %d, taken %d", sent, taken+lost, taken); taken == 0 || 8*taken < taken+lost {
		t.Error("the flood starves the program")
	}
	s.command("delete", "--force", id).mustRun()
}
