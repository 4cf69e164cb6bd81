package vsock_test

import (
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/microvm/microvm/vmm/virtio/queue/queuetest"
	"github.com/microvm/microvm/vmm/virtio/vsock"
)

func readAll(t *testing.T, c net.Conn) string {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(patience))
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatalf("read %q, then: %v", b, err)
	}
	return string(b)
}

func readN(t *testing.T, c net.Conn, n int) string {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(patience))
	b := make([]byte, n)
	if n, err := io.ReadFull(c, b); err != nil {
		t.Fatalf("read %q, then: %v", b[:n], err)
	}
	return string(b)
}

func writeString(t *testing.T, c net.Conn, s string) {
	t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		t.Fatal(err)
	}
}

func TestBytesCrossBothWays(t *testing.T) {
	for name, split := range map[string]bool{"one descriptor": false, "header apart": true} {
		t.Run(name, func(t *testing.T) {
			l := linuxLayout()
			l.split = split
			g := boot(t, l)
			c, host := g.open(7)
			writeString(t, host, "question")
			if p := g.expect(opRW); string(p.data) != "question" || p.DstPort != 7 {
				t.Fatalf("guest got %v %q", p, p.data)
			}
			c.send(opRW, text("answer"), fwdCnt(8))
			if got := readN(t, host, 6); got != "answer" {
				t.Fatalf("host got %q", got)
			}
		})
	}
}

// chop makes the chain at head 0 of one descriptor per byte behind the header.
func (r *ring) chop(addr uint64, payload int, flags uint16) {
	r.SetDesc(0, addr, headerSize, flags|queuetest.Next, 1)
	for i := range payload {
		next := uint16(queuetest.Next)
		if i == payload-1 {
			next = 0
		}
		r.SetDesc(uint16(i+1), addr+headerSize+uint64(i), 1, flags|next, uint16(i+2))
	}
}

func TestPayloadInMorePiecesThanASystemCallTakes(t *testing.T) {
	const pieces = 1500
	l := linuxLayout()
	l.rxSize, l.txSize, l.rxRoom, l.txRoom = 2048, 2048, headerSize+4, headerSize+4
	g := newGuest(t, l)
	g.activate()
	mine, theirs := socketpair(t)
	if err := g.dev.Connect(7, theirs); err != nil {
		t.Fatal(err)
	}
	// A plain buffer for the request, then the one in pieces.
	addr, in := g.rx.Alloc(headerSize + pieces)
	g.rx.chop(addr, pieces, queuetest.Write)
	g.rx.free = []uint16{2000}
	g.refill()
	for len(g.rx.free) == 0 {
		if p := g.poll(); p != nil {
			c := &conn{g: g, guest: 7, host: p.SrcPort, alloc: guestCredit}
			c.send(opResponse)
			g.sendInPieces(c, pattern(1, pieces))
		}
	}
	if got := readN(t, mine, pieces); got != string(pattern(1, pieces)) {
		t.Fatal("bytes to the host were changed")
	}
	want := pattern(2, pieces)
	mine.Write(want)
	g.rx.bufs[0] = in
	g.rx.free = []uint16{0}
	g.refill()
	p := g.poll()
	for ; p == nil; p = g.poll() {
		time.Sleep(time.Millisecond)
	}
	if len(p.data) == 0 || string(p.data) != string(want[:len(p.data)]) {
		t.Fatalf("guest got %v", p)
	}
}

// sendInPieces sends b with a descriptor for each byte.
func (g *guest) sendInPieces(c *conn, b []byte) {
	addr, out := g.tx.Alloc(headerSize + len(b))
	p := packet{
		SrcCID: guestCID, DstCID: hostCID, SrcPort: c.guest, DstPort: c.host, Type: 1, Op: opRW,
		Len: uint32(len(b)), BufAlloc: c.alloc, data: b,
	}
	eventually(g.t.(*testing.T), "response is taken", func() bool {
		_, _, ok := g.tx.Used()
		return ok
	})
	copy(out, p.bytes())
	g.tx.chop(addr, len(b), 0)
	g.tx.Publish(0)
	g.tx.kick.Ring()
}

func TestGuestDialsAPortOnce(t *testing.T) {
	mine, theirs := socketpair(t)
	f, err := theirs.File()
	if err != nil {
		t.Fatal(err)
	}
	l := linuxLayout()
	l.dial = vsock.Outbound(map[uint32]*os.File{1024: f})
	g := boot(t, l)
	c := &conn{g: g, guest: 50000, host: 1024, alloc: guestCredit}
	c.send(opRequest)
	if p := g.expect(opResponse); p.DstPort != 50000 || p.SrcPort != 1024 || p.BufAlloc != hostCredit {
		t.Fatalf("guest got %v", p)
	}
	c.send(opRW, text("ready"))
	if got := readN(t, mine, 5); got != "ready" {
		t.Fatalf("host got %q", got)
	}
	for _, port := range []uint32{1024, 1025} {
		again := &conn{g: g, guest: 50001, host: port}
		again.send(opRequest)
		if p := g.expect(opRst); p.DstPort != 50001 || p.SrcPort != port {
			t.Fatalf("guest got %v", p)
		}
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not in %v: %s", patience, what)
}
