package vsock_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// packet is struct virtio_vsock_hdr and what follows it.
type packet struct {
	SrcCID, DstCID   uint64
	SrcPort, DstPort uint32
	Len              uint32
	Type, Op         uint16
	Flags            uint32
	BufAlloc, FwdCnt uint32
	data             []byte
}

func (p *packet) String() string {
	return fmt.Sprintf("op %d %d:%d->%d:%d len %d flags %d alloc %d fwd %d",
		p.Op, p.SrcCID, p.SrcPort, p.DstCID, p.DstPort, p.Len, p.Flags, p.BufAlloc, p.FwdCnt)
}

func (p *packet) bytes() []byte {
	b := make([]byte, 0, headerSize+len(p.data))
	for _, v := range []any{p.SrcCID, p.DstCID, p.SrcPort, p.DstPort, p.Len, p.Type, p.Op, p.Flags, p.BufAlloc, p.FwdCnt} {
		b, _ = binary.Append(b, binary.LittleEndian, v)
	}
	return append(b, p.data...)
}

func parsePacket(b []byte) *packet {
	p := new(packet)
	r := bytes.NewReader(b)
	for _, v := range []any{&p.SrcCID, &p.DstCID, &p.SrcPort, &p.DstPort, &p.Len, &p.Type, &p.Op, &p.Flags, &p.BufAlloc, &p.FwdCnt} {
		if err := binary.Read(r, binary.LittleEndian, v); err != nil {
			panic(err)
		}
	}
	p.data = bytes.Clone(b[headerSize:])
	return p
}

func data(b []byte) func(*packet) { return func(p *packet) { p.data = b } }

func text(s string) func(*packet) { return data([]byte(s)) }

func flags(f uint32) func(*packet) { return func(p *packet) { p.Flags = f } }

func fwdCnt(n uint32) func(*packet) { return func(p *packet) { p.FwdCnt = n } }
