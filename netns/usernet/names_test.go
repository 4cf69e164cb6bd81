package usernet

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
)

// TestFloodOfQuestions has a guest ask without end for names that no server knows
// anything of: the host asks only so many at a time, and answers again afterwards.
func TestFloodOfQuestions(t *testing.T) {
	var asked atomic.Int64
	silent, speak := context.WithCancel(t.Context())
	defer speak()
	before := net.DefaultResolver
	t.Cleanup(func() { net.DefaultResolver = before })
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		asked.Add(1)
		select {
		case <-silent.Done():
		case <-ctx.Done():
		}
		return nil, net.ErrClosed
	}}
	_, s := newGuest(t)
	at := tcpip.FullAddress{NIC: nic, Addr: address(gateways[0]), Port: namesPort}
	c, err := gonet.DialUDP(s, nil, &at, protocol(gateways[0]))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ask := func(i int) {
		p, err := new(dns.Msg).SetQuestion(fmt.Sprintf("name%d.example.", i), dns.TypeA).Pack()
		if err == nil {
			_, err = c.Write(p)
		}
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Microsecond) // or most are lost on the way
	}
	for i := range 4 * maxQuestions {
		ask(i)
	}
	for last := int64(-1); last != asked.Load(); time.Sleep(500 * time.Millisecond) {
		last = asked.Load()
	}
	const each = 2 // a server is asked for the addresses of both families
	if n := asked.Load(); n < maxQuestions || n > each*maxQuestions {
		t.Errorf("%d sockets for questions at a time, %d questions are the most", n, maxQuestions)
	}
	speak()
	_ = c.SetReadDeadline(time.Now().Add(time.Minute))
	for range maxQuestions / 2 {
		if _, err := c.Read(make([]byte, 1<<10)); err != nil {
			t.Fatal("what was asked has no answer: ", err)
		}
	}
}
