package vsock_test

import (
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"github.com/microvm/microvm/vmm/virtio"
)

// FuzzPackets lets the fuzzer write a sequence of packets of the guest. Every
// record is a length byte, whose top bit makes the addresses and ports honest,
// and that many bytes of packet. Whatever comes, the device must neither fail
// nor panic, and must still serve a new stream afterwards.
func FuzzPackets(f *testing.F) {
	record := func(op uint16, change ...func(*packet)) []byte {
		p := packet{Type: 1, Op: op, BufAlloc: 1 << 16}
		for _, c := range change {
			c(&p)
		}
		p.Len = uint32(len(p.data))
		b := p.bytes()
		return append([]byte{byte(len(b)) | 0x80}, b...)
	}
	for _, ops := range [][]uint16{
		{opResponse, opRW, opShutdown}, {opRst}, {opRequest}, {opResponse, opRst, opRW},
		{opResponse, opCreditRequest, opCreditUpdate}, {opResponse, opRequest}, {99},
	} {
		var seed []byte
		for _, op := range ops {
			seed = append(seed, record(op, text("payload"), flags(shutBoth))...)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		l := linuxLayout()
		l.rxSize, l.txSize, l.txRoom = 16, 16, 256
		l.dial = func(uint32) (*net.UnixConn, error) {
			a, b := socketpair(t)
			go io.Copy(a, a) // ends with the stream
			return b, nil
		}
		g := boot(t, l)
		mine, theirs := socketpair(t)
		if err := g.dev.Connect(7, theirs); err != nil {
			t.Fatal(err)
		}
		mine.Write([]byte("from the host"))
		p := g.expect(opRequest)
		for len(script) > 0 {
			n := min(int(script[0]&0x7f), len(script)-1)
			b := append([]byte(nil), script[1:1+n]...)
			honest := script[0]&0x80 != 0 && n >= headerSize
			script = script[1+n:]
			if n == 0 {
				continue
			}
			if honest {
				binary.LittleEndian.PutUint64(b[0:], guestCID)
				binary.LittleEndian.PutUint64(b[8:], hostCID)
				binary.LittleEndian.PutUint32(b[16:], 7)
				binary.LittleEndian.PutUint32(b[20:], p.SrcPort)
			}
			g.write(b)
			for g.poll() != nil {
			}
			g.refill()
		}
		g.drainUntilAlive(t)
	})
}

// drainUntilAlive opens a new stream among whatever the device still sends.
func (g *guest) drainUntilAlive(t *testing.T) {
	mine, theirs := socketpair(t)
	if err := g.dev.Connect(4242, theirs); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(patience); time.Now().Before(end); {
		p := g.receive()
		if p.Op == opRequest && p.DstPort == 4242 {
			c := &conn{g: g, guest: 4242, host: p.SrcPort, alloc: guestCredit}
			c.send(opResponse)
			c.send(opRW, text("alive"))
			readN(t, mine, 5)
			return
		}
	}
	t.Fatal("device does not connect any more")
}

// FuzzRings lets the fuzzer write both rings and their descriptors.
func FuzzRings(f *testing.F) {
	f.Add(make([]byte, 256), make([]byte, 256), uint16(1), uint16(1))
	f.Fuzz(func(t *testing.T, rx, tx []byte, rxIdx, txIdx uint16) {
		l := linuxLayout()
		l.rxSize, l.txSize, l.txRoom = 8, 8, 256
		g := newGuest(t, l)
		for _, r := range []struct {
			*ring
			bytes []byte
			idx   uint16
		}{{g.rx, rx, rxIdx}, {g.tx, tx, txIdx}} {
			copy(r.Bytes(r.Config.Desc, 16*8), r.bytes)
			if len(r.bytes) > 16*8 {
				copy(r.Bytes(r.Config.Avail+4, 2*8), r.bytes[16*8:])
			}
			r.SetAvailIdx(r.idx)
		}
		failed := make(chan error, 1)
		err := g.dev.Activate(virtio.Activation{
			Memory: g.rx.Mem, Queues: []*virtio.Queue{g.rx.activated(), g.tx.activated()},
			Fail: func(err error) { failed <- err },
		})
		if err != nil {
			t.Fatal(err)
		}
		mine, theirs := socketpair(t)
		if g.dev.Connect(7, theirs) != nil {
			return // the rings are broken, and the device has seen it
		}
		mine.Write([]byte("x"))
		g.rx.kick.Ring()
		g.tx.kick.Ring()
		g.dev.Reset()
	})
}
