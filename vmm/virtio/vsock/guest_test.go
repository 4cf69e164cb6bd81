package vsock_test

import (
	"net"
	"testing"
	"time"

	"github.com/microvm/microvm/vmm/virtio"
	"github.com/microvm/microvm/vmm/virtio/queue/queuetest"
	"github.com/microvm/microvm/vmm/virtio/vsock"
)

// Wire constants, written down a second time on purpose.
const (
	guestCID = 3
	hostCID  = 2

	opRequest       = 1
	opResponse      = 2
	opRst           = 3
	opShutdown      = 4
	opRW            = 5
	opCreditUpdate  = 6
	opCreditRequest = 7

	shutReceive = 1
	shutSend    = 2
	shutBoth    = 3

	headerSize  = 44
	hostCredit  = 256 << 10 // what the device grants
	guestCredit = 256 << 10 // what a guest grants, if the test does not say
	patience    = 20 * time.Second
)

// layout says how a test's guest sets its rings up.
type layout struct {
	rxSize, txSize uint16
	rxRoom, txRoom int
	split          bool // the header in its own descriptor, on both rings
	dial           func(uint32) (*net.UnixConn, error)
	timeout        time.Duration // for the guest's answer to a request
}

// linuxLayout is about what a Linux guest does.
func linuxLayout() layout {
	return layout{rxSize: 128, txSize: 128, rxRoom: 3776, txRoom: headerSize + 64<<10}
}

// guest is the driver's side of a device. Its methods are for one goroutine at
// a time, but sending and receiving are independent.
type guest struct {
	t      testing.TB
	dev    *vsock.Device
	rx, tx *ring
	failed chan error
	layout
}

func newGuest(t testing.TB, l layout) *guest {
	t.Helper()
	checkLeaks(t)
	mem := queuetest.Memory(t, 64<<20)
	heapRx := uint64(l.rxSize) * uint64(l.rxRoom+32)
	heapTx := uint64(l.txSize) * uint64(l.txRoom+32)
	g := &guest{
		t: t, layout: l, failed: make(chan error, 16),
		rx: newRing(t, queuetest.New(t, mem, 0x1000, l.rxSize, heapRx), l.rxSize, l.rxRoom, queuetest.Write, l.split),
		tx: newRing(t, queuetest.New(t, mem, 0x1000000, l.txSize, heapTx), l.txSize, l.txRoom, 0, l.split),
		dev: vsock.New(vsock.Config{GuestCID: guestCID, Dial: l.dial, ConnectTimeout: l.timeout, Warn: func(err error) {
			t.Log(err)
		}}),
	}
	t.Cleanup(func() { g.dev.Close() })
	return g
}

// boot activates the device and fills the receive ring.
func boot(t testing.TB, l layout) *guest {
	t.Helper()
	g := newGuest(t, l)
	g.activate()
	g.refill()
	return g
}

func (g *guest) activate() {
	g.t.Helper()
	err := g.dev.Activate(virtio.Activation{
		Memory: g.rx.Mem, Features: g.dev.Features() | virtio.TransportFeatures,
		Queues: []*virtio.Queue{g.rx.activated(), g.tx.activated()},
		Fail: func(err error) {
			select {
			case g.failed <- err:
			default:
			}
		},
	})
	if err != nil {
		g.t.Fatal(err)
	}
}

// refill publishes every free receive buffer.
func (g *guest) refill() {
	for _, head := range g.rx.free {
		g.rx.Publish(head)
	}
	g.rx.free = g.rx.free[:0]
	g.rx.kick.Ring()
}

// poll takes the next packet if there is one; its buffer stays with the guest.
func (g *guest) poll() *packet {
	head, n, ok := g.rx.Used()
	if !ok {
		return nil
	}
	g.rx.free = append(g.rx.free, head)
	if n < headerSize || int(n) > len(g.rx.bufs[head]) {
		g.t.Errorf("device used %d bytes of a buffer of %d", n, len(g.rx.bufs[head]))
		return nil
	}
	p := parsePacket(g.rx.bufs[head][:n])
	if p.SrcCID != hostCID || p.DstCID != guestCID || int(p.Len) != len(p.data) {
		g.t.Errorf("packet %v with %d bytes of payload", p, len(p.data))
	}
	return p
}

// receive waits for the next packet and gives its buffer back.
func (g *guest) receive() *packet {
	g.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if p := g.poll(); p != nil {
			g.refill()
			return p
		}
		select {
		case <-g.rx.irq:
		case <-time.After(5 * time.Millisecond):
		}
	}
	g.t.Fatal("no packet for the guest")
	return nil
}

// expect waits for a packet of the given operation; credit packets that were
// not asked for are passed over.
func (g *guest) expect(op uint16) *packet {
	g.t.Helper()
	for {
		p := g.receive()
		if p.Op == op {
			return p
		}
		if p.Op != opCreditUpdate && p.Op != opCreditRequest {
			g.t.Fatalf("guest got %v, want op %d", p, op)
		}
	}
}

// write sends raw bytes as one packet, as soon as the ring has room.
func (g *guest) write(b []byte) {
	g.t.Helper()
	for end := time.Now().Add(patience); len(g.tx.free) == 0; {
		if head, n, ok := g.tx.Used(); ok {
			if n != 0 {
				g.t.Errorf("device wrote %d bytes to a tx buffer", n)
			}
			g.tx.free = append(g.tx.free, head)
			continue
		}
		if time.Now().After(end) {
			g.t.Fatal("device took no packet")
		}
		select {
		case <-g.tx.irq:
		case <-time.After(5 * time.Millisecond):
		}
	}
	head := g.tx.free[0]
	g.tx.free = g.tx.free[1:]
	copy(g.tx.bufs[head], b)
	g.setLength(head, len(b))
	g.tx.Publish(head)
	g.tx.kick.Ring()
}

// send fills in what every honest packet has and sends p.
func (g *guest) send(p packet) {
	g.t.Helper()
	p.SrcCID, p.DstCID, p.Type = guestCID, hostCID, 1
	p.Len = uint32(len(p.data))
	g.write(p.bytes())
}

func (c *conn) send(op uint16, change ...func(*packet)) {
	c.g.t.Helper()
	p := packet{SrcPort: c.guest, DstPort: c.host, Op: op, BufAlloc: c.alloc}
	for _, f := range change {
		f(&p)
	}
	c.g.send(p)
}
