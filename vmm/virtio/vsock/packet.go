package vsock

import "encoding/binary"

// hostCID is the host's address (section 5.10.4); wide as in the header.
const hostCID = 2

// headerSize is the size of struct virtio_vsock_hdr in bytes (section 5.10.6).
const headerSize = 44

// maxPayload is the largest payload of one packet in bytes. The specification
// names none; Linux takes this much.
const maxPayload = 64 << 10

// typeStream is VIRTIO_VSOCK_TYPE_STREAM (section 5.10.6.4).
const typeStream = 1

// Operations, VIRTIO_VSOCK_OP_* (section 5.10.6).
const (
	opRequest       = 1
	opResponse      = 2
	opRst           = 3
	opShutdown      = 4
	opRW            = 5
	opCreditUpdate  = 6
	opCreditRequest = 7
)

// Flags of opShutdown, VIRTIO_VSOCK_SHUTDOWN_F_* (section 5.10.6.5): what its
// sender will no longer do.
const (
	shutdownReceive = 1
	shutdownSend    = 2
	shutdownBoth    = shutdownReceive | shutdownSend
)

// header mirrors struct virtio_vsock_hdr (section 5.10.6).
type header struct {
	srcCID, dstCID   uint64
	srcPort, dstPort uint32
	len              uint32
	typ, op          uint16
	flags            uint32
	bufAlloc, fwdCnt uint32
}

func decodeHeader(b *[headerSize]byte) header {
	le := binary.LittleEndian
	return header{
		srcCID: le.Uint64(b[0:]), dstCID: le.Uint64(b[8:]),
		srcPort: le.Uint32(b[16:]), dstPort: le.Uint32(b[20:]),
		len: le.Uint32(b[24:]), typ: le.Uint16(b[28:]), op: le.Uint16(b[30:]),
		flags: le.Uint32(b[32:]), bufAlloc: le.Uint32(b[36:]), fwdCnt: le.Uint32(b[40:]),
	}
}

func (h *header) encode(b *[headerSize]byte) {
	le := binary.LittleEndian
	le.PutUint64(b[0:], h.srcCID)
	le.PutUint64(b[8:], h.dstCID)
	le.PutUint32(b[16:], h.srcPort)
	le.PutUint32(b[20:], h.dstPort)
	le.PutUint32(b[24:], h.len)
	le.PutUint16(b[28:], h.typ)
	le.PutUint16(b[30:], h.op)
	le.PutUint32(b[32:], h.flags)
	le.PutUint32(b[36:], h.bufAlloc)
	le.PutUint32(b[40:], h.fwdCnt)
}

// section appends to dst the part of bufs that starts off bytes in and is at
// most n bytes long.
func section(dst, bufs [][]byte, off, n int) [][]byte {
	for _, b := range bufs {
		if off >= len(b) {
			off -= len(b)
			continue
		}
		b = b[off:]
		off = 0
		if len(b) >= n {
			return append(dst, b[:n])
		}
		dst = append(dst, b)
		n -= len(b)
	}
	return dst
}
