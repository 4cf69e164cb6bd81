package vsock_test

import (
	"encoding/binary"
	"errors"
	"io"
	"math"
	"net"
	"testing"

	"github.com/microvm/microvm/vmm/virtio"
	"github.com/microvm/microvm/vmm/virtio/queue"
	"github.com/microvm/microvm/vmm/virtio/queue/queuetest"
	"github.com/microvm/microvm/vmm/virtio/vsock"
)

// expectFault waits until the device has counted the fault.
func (g *guest) expectFault(t *testing.T, name string) {
	t.Helper()
	eventually(t, name, func() bool { return g.dev.Faults()[name] > 0 })
}

// expectGone checks that the guest is sent a RST and the host an end, and that
// the device goes on.
func (c *conn) expectGone(t *testing.T, host *net.UnixConn) {
	t.Helper()
	if p := c.g.expect(opRst); p.DstPort != c.guest || p.SrcPort != c.host {
		t.Fatalf("RST for another stream: %v", p)
	}
	readAll(t, host)
	c.g.expectAlive(t)
}

func (g *guest) expectAlive(t *testing.T) {
	t.Helper()
	c, host := g.open(4242)
	c.send(opRW, text("alive"))
	if got := readN(t, host, 5); got != "alive" {
		t.Fatalf("host got %q", got)
	}
	select {
	case err := <-g.failed:
		t.Fatalf("device has failed: %v", err)
	default:
	}
}

// Each breaks a rule on an open stream, which must be reset.
func TestStreamIsResetWhenTheGuest(t *testing.T) {
	cases := map[string]struct {
		fault string
		do    func(c *conn)
	}{
		"sends an unknown operation": {"packet with an unknown operation", func(c *conn) { c.send(99) }},
		"sends operation zero":       {"packet with an unknown operation", func(c *conn) { c.send(0) }},
		"requests twice":             {"operation in the wrong state", func(c *conn) { c.send(opRequest) }},
		"responds twice":             {"operation in the wrong state", func(c *conn) { c.send(opResponse) }},
		"sends data after shutdown": {"operation in the wrong state", func(c *conn) {
			c.send(opShutdown, flags(shutSend))
			c.send(opRW, text("x"))
		}},
		"acknowledges more than was sent": {"fwd_cnt ahead of what was sent", func(c *conn) {
			c.send(opCreditUpdate, fwdCnt(1))
		}},
		"acknowledges half the numbers ahead": {"fwd_cnt ahead of what was sent", func(c *conn) {
			c.send(opCreditUpdate, fwdCnt(math.MaxInt32))
		}},
		"sends past the credit": {"data past the credit", func(c *conn) {
			c.sendUntilFull()
			c.send(opRW, text("x"))
		}},
		"claims more payload than it sends": {"payload longer than its descriptors", func(c *conn) {
			p := packet{SrcCID: guestCID, DstCID: hostCID, Type: 1, Op: opRW, SrcPort: c.guest, DstPort: c.host, Len: 6, data: []byte("short")}
			c.g.write(p.bytes())
		}},
		"claims 4 GiB of payload": {"payload longer than its descriptors", func(c *conn) {
			p := packet{SrcCID: guestCID, DstCID: hostCID, Type: 1, Op: opRW, SrcPort: c.guest, DstPort: c.host, Len: math.MaxUint32, data: []byte("short")}
			c.g.write(p.bytes())
		}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			g := boot(t, linuxLayout())
			c, host := g.open(7)
			tc.do(c)
			g.expectFault(t, tc.fault)
			c.expectGone(t, host)
		})
	}
}

func TestForeignAddressesAreDropped(t *testing.T) {
	g := boot(t, linuxLayout())
	c, host := g.open(7)
	for _, p := range []packet{
		{SrcCID: 4, DstCID: hostCID},
		{SrcCID: hostCID, DstCID: hostCID},
		{SrcCID: guestCID | 1<<32, DstCID: hostCID},
		{SrcCID: guestCID, DstCID: guestCID},
		{SrcCID: guestCID, DstCID: 1},
		{SrcCID: guestCID, DstCID: hostCID | 1<<63},
		{SrcCID: guestCID, DstCID: math.MaxUint32},
	} {
		p.Type, p.Op, p.SrcPort, p.DstPort = 1, opRW, c.guest, c.host
		p.data, p.Len = []byte("forged"), 6
		g.write(p.bytes())
	}
	c.send(opRW, text("genuine"))
	if got := readN(t, host, 7); got != "genuine" {
		t.Fatalf("host got %q", got)
	}
	if n := g.dev.Faults()["packet with a foreign CID"]; n != 7 {
		t.Fatalf("%d faults counted", n)
	}
	g.expectAlive(t) // and no RST has come for any of them
}

func TestStrangersAreAnsweredWithReset(t *testing.T) {
	g := boot(t, linuxLayout())
	c, host := g.open(7)
	for _, op := range []uint16{0, opResponse, opShutdown, opRW, opCreditUpdate, opCreditRequest, 99, math.MaxUint16} {
		g.send(packet{SrcPort: 1, DstPort: 2, Op: op, data: []byte("?")})
		if p := g.expect(opRst); p.DstPort != 1 || p.SrcPort != 2 {
			t.Fatalf("op %d was answered %v", op, p)
		}
	}
	// Of another type: a reset of that type, and the stream stays.
	p := packet{SrcCID: guestCID, DstCID: hostCID, Type: 2, Op: opRW, SrcPort: c.guest, DstPort: c.host}
	g.write(p.bytes())
	if p := g.expect(opRst); p.Type != 2 {
		t.Fatalf("guest got %v of type %d", p, p.Type)
	}
	g.send(packet{SrcPort: 1, DstPort: 2, Op: opRst}) // never answered
	c.send(opRW, text("still here"))
	if got := readN(t, host, 10); got != "still here" {
		t.Fatalf("host got %q", got)
	}
}

func TestShortPacketsAreDropped(t *testing.T) {
	g := boot(t, linuxLayout())
	for _, n := range []int{1, 8, headerSize - 1} {
		g.write(make([]byte, n))
	}
	g.expectFault(t, "packet without a whole header")
	g.expectAlive(t)
}

func TestCreditOfExtremeSizes(t *testing.T) {
	g := boot(t, linuxLayout())
	_, host := g.openWith(7, math.MaxUint32)
	want := pattern(5, 4<<20) // far more than the usual credit, never acknowledged
	go host.Write(want)
	var got []byte
	for len(got) < len(want) {
		got = append(got, g.expect(opRW).data...)
	}
	if string(got) != string(want) {
		t.Fatal("bytes were changed")
	}
	none, host := g.openWith(8, 0)
	writeString(t, host, "x")
	g.expect(opCreditRequest)
	none.send(opCreditUpdate, fwdCnt(0))
	none.alloc = 1
	none.send(opCreditUpdate)
	if p := g.expect(opRW); string(p.data) != "x" {
		t.Fatalf("guest got %q", p.data)
	}
}

// A window that shrinks below what is in flight only stalls the stream.
func TestCreditThatShrinks(t *testing.T) {
	g := boot(t, linuxLayout())
	c, host := g.openWith(7, 1000)
	writeString(t, host, string(make([]byte, 1000)))
	g.expect(opRW)
	c.alloc = 10
	c.send(opCreditUpdate)
	writeString(t, host, "late")
	c.send(opCreditUpdate, fwdCnt(990)) // 10 in flight of 10
	c.send(opCreditUpdate, fwdCnt(500)) // outdated
	c.send(opCreditUpdate, fwdCnt(1000))
	if p := g.expect(opRW); string(p.data) != "late" {
		t.Fatalf("guest got %q", p.data)
	}
}

func TestConnectFloodIsBounded(t *testing.T) {
	g := newGuest(t, linuxLayout())
	g.activate() // and give it no receive buffer
	const flood = 5000
	taken := 0
	for sent := 0; sent < flood; {
		if len(g.tx.free) == 0 {
			head, _, ok := g.tx.Used()
			if !ok {
				if taken >= 256 {
					break // the device has had enough
				}
				continue
			}
			taken++
			g.tx.free = append(g.tx.free, head)
		}
		g.send(packet{SrcPort: uint32(sent), DstPort: 1, Op: opRequest})
		sent++
	}
	if taken > 256 {
		t.Fatalf("device took %d requests that it could not answer", taken)
	}
	g.refill()
	for i := range uint32(taken) {
		if p := g.expect(opRst); p.DstPort != i {
			t.Fatalf("answer %d is %v", i, p)
		}
	}
	// Those in the ring are answered too, now that there is room.
	for range int(g.txSize) {
		g.expect(opRst)
	}
	g.expectAlive(t)
}

func TestStreamsAreBounded(t *testing.T) {
	l := linuxLayout()
	var hosts []*net.UnixConn
	l.dial = func(uint32) (*net.UnixConn, error) {
		a, b := socketpair(t)
		hosts = append(hosts, a)
		return b, nil
	}
	g := boot(t, l)
	const most = 4096
	for i := range uint32(most + 10) {
		g.send(packet{SrcPort: i, DstPort: 1, Op: opRequest})
		want := uint16(opResponse)
		if i >= most {
			want = opRst
		}
		if p := g.expect(want); p.DstPort != i {
			t.Fatalf("guest got %v", p)
		}
	}
	g.dev.Reset()
	for _, h := range hosts {
		h.Close()
	}
}

func TestBrokenRingsStopTheDevice(t *testing.T) {
	cases := map[string]struct {
		want error
		do   func(g *guest)
	}{
		"tx loop": {queue.ErrBroken, func(g *guest) {
			g.tx.SetDesc(0, 0x2000, 1, queuetest.Next, 0)
			g.tx.Publish(0)
			g.tx.kick.Ring()
		}},
		"rx index jumps": {queue.ErrBroken, func(g *guest) {
			g.rx.SetAvailIdx(0x8000)
			g.send(packet{SrcPort: 1, DstPort: 2, Op: opRW})
		}},
		"rx buffer of a header only": {virtio.ErrDevice, func(g *guest) {
			g.rx.SetDesc(0, 0x3000, headerSize, queuetest.Write, 0)
			g.rx.Publish(0)
			g.send(packet{SrcPort: 1, DstPort: 2, Op: opRW})
		}},
		"rx buffer that can't be written": {virtio.ErrDevice, func(g *guest) {
			g.rx.SetDesc(0, 0x3000, 4096, 0, 0)
			g.rx.Publish(0)
			g.send(packet{SrcPort: 1, DstPort: 2, Op: opRW})
		}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			g := newGuest(t, linuxLayout())
			g.activate()
			mine, theirs := socketpair(t)
			if err := g.dev.Connect(7, theirs); err != nil {
				t.Fatal(err)
			}
			tc.do(g)
			if err := <-g.failed; !errors.Is(err, tc.want) {
				t.Fatalf("device failed with %v", err)
			}
			io.Copy(io.Discard, mine) // ends
			late, theirs := socketpair(t)
			defer late.Close()
			if err := g.dev.Connect(7, theirs); !errors.Is(err, vsock.ErrInactive) {
				t.Fatalf("connect: %v", err)
			}
		})
	}
}

func TestActivateWithoutRings(t *testing.T) {
	g := newGuest(t, linuxLayout())
	for _, queues := range [][]*virtio.Queue{nil, {g.rx.activated()}, {nil, g.tx.activated()}} {
		err := g.dev.Activate(virtio.Activation{Memory: g.rx.Mem, Queues: queues, Fail: func(error) {}})
		if !errors.Is(err, virtio.ErrDevice) {
			t.Fatalf("activate with %d queues: %v", len(queues), err)
		}
	}
	g.dev.Reset()
}

func TestConfigurationSpace(t *testing.T) {
	d := vsock.New(vsock.Config{GuestCID: 0x1122334455667788})
	d.WriteConfig(0, []byte{9, 9, 9, 9})
	var p [12]byte
	p[11] = 0xff
	d.ReadConfig(0, p[:])
	if binary.LittleEndian.Uint64(p[:]) != 0x1122334455667788 || p[11] != 0 {
		t.Fatalf("read % x", p)
	}
	for _, off := range []uint32{8, 1000, math.MaxUint32} {
		p[0] = 0xff
		if d.ReadConfig(off, p[:1]); p[0] != 0 {
			t.Fatalf("read % x at %d", p[:1], off)
		}
	}
	if d.ReadConfig(6, p[:4]); p[0] != 0x22 || p[1] != 0x11 || p[2] != 0 {
		t.Fatalf("read % x at 6", p[:4])
	}
}
