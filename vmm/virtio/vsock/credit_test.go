package vsock_test

import (
	"net"
	"testing"
	"time"
)

// sendUntilFull uses the whole credit up.
func (c *conn) sendUntilFull() []byte {
	c.g.t.Helper()
	var sent []byte
	var fwd uint32
	for {
		n := min(hostCredit-(len(sent)-int(fwd)), 64<<10)
		if n == 0 {
			// Wait for an update that is still to come, if any.
			c.send(opCreditRequest)
			p := c.g.expect(opCreditUpdate)
			for p.DstPort != c.guest {
				p = c.g.expect(opCreditUpdate)
			}
			if p.FwdCnt == fwd {
				return sent
			}
			fwd = p.FwdCnt
			continue
		}
		b := pattern(len(sent), n)
		c.send(opRW, data(b))
		sent = append(sent, b...)
	}
}

// pattern makes n bytes of which no two near runs are equal.
func pattern(seed, n int) []byte {
	b := make([]byte, n)
	x := uint32(seed)*2654435761 + 1
	for i := range b {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		b[i] = byte(x)
	}
	return b
}

func TestStalledHostReaderStallsOnlyItsStream(t *testing.T) {
	g := boot(t, linuxLayout())
	slow, slowHost := g.open(7)
	sent := slow.sendUntilFull()
	if len(sent) < hostCredit {
		t.Fatalf("only %d bytes were taken", len(sent))
	}
	quick, quickHost := g.open(8)
	quick.send(opRW, text("passes"))
	if got := readN(t, quickHost, 6); got != "passes" {
		t.Fatalf("host got %q", got)
	}
	if got := readN(t, slowHost, len(sent)); got != string(sent) {
		t.Fatal("stalled bytes were changed")
	}
	if p := g.expectCredit(len(sent)); p.BufAlloc != hostCredit {
		t.Fatalf("credit %v", p)
	}
	slow.send(opRW, text("goes on"))
	if got := readN(t, slowHost, 7); got != "goes on" {
		t.Fatalf("host got %q", got)
	}
}

// expectCredit waits until at least half of the credit for sent bytes is back.
func (g *guest) expectCredit(sent int) *packet {
	g.t.Helper()
	for {
		if p := g.expect(opCreditUpdate); int(p.FwdCnt) > sent-hostCredit/2 {
			return p
		}
	}
}

func TestGuestCreditIsNeverExceeded(t *testing.T) {
	const window = 10000
	g := boot(t, linuxLayout())
	c, host := g.openWith(7, window)
	want := pattern(1, 5*window+123)
	go func() {
		host.Write(want)
		host.CloseWrite()
	}()
	var got []byte
	fwd := 0
	for len(got) < len(want) {
		p := g.receive()
		switch p.Op {
		case opRW:
			got = append(got, p.data...)
			if len(got)-fwd > window {
				t.Fatalf("%d bytes in flight, credit was %d", len(got)-fwd, window)
			}
		case opCreditRequest:
			if len(got)-fwd != window {
				t.Fatalf("credit asked for with %d bytes in flight", len(got)-fwd)
			}
			fwd += min(len(got)-fwd, 3333) // resume by bits
			c.send(opCreditUpdate, fwdCnt(uint32(fwd)))
		default:
			t.Fatalf("guest got %v", p)
		}
	}
	if string(got) != string(want) {
		t.Fatal("bytes were changed")
	}
	g.expect(opShutdown)
}

func TestStarvedReceiveRingHoldsNothingUp(t *testing.T) {
	l := linuxLayout()
	l.rxSize = 2
	g := newGuest(t, l)
	g.activate() // with no receive buffer at all
	mine, theirs := socketpair(t)
	if err := g.dev.Connect(7, theirs); err != nil {
		t.Fatal(err)
	}
	// The guest's packets are still taken.
	for range 100 {
		g.send(packet{SrcPort: 1, DstPort: 2, Op: opRst})
	}
	g.refill()
	p := g.expect(opRequest)
	c := &conn{g: g, guest: 7, host: p.SrcPort, alloc: guestCredit}
	c.send(opResponse)
	want := pattern(2, 100000)
	go mine.Write(want)
	var got []byte
	for len(got) < len(want) {
		got = append(got, g.expect(opRW).data...)
	}
	if string(got) != string(want) {
		t.Fatal("bytes were changed")
	}
}

func TestStreamsShareTheReceiveRing(t *testing.T) {
	const streams = 8
	l := linuxLayout()
	l.rxSize = 4
	g := boot(t, l)
	big := pattern(3, 64<<10)
	var hosts []*net.UnixConn
	for i := range uint32(streams) {
		_, host := g.open(100 + i)
		hosts = append(hosts, host)
	}
	for _, host := range hosts {
		go host.Write(big)
	}
	// Give every stream time to become ready, with the ring full.
	time.Sleep(50 * time.Millisecond)
	count := make(map[uint32]int)
	for range 10 * streams {
		count[g.expect(opRW).DstPort]++
	}
	for i := range uint32(streams) {
		if n := count[100+i]; n < 5 || n > 20 {
			t.Fatalf("of %d packets the streams got %v", 10*streams, count)
		}
	}
}
