package export

import (
	"encoding/binary"
	"sync"

	"golang.org/x/sys/unix"
)

// Request is one message from the guest with room for the answer. Both sides
// may alias guest memory, which the guest changes at any time: headers are
// copied once, the data of READ and WRITE goes straight between file and
// segment.
type Request struct {
	// Readable holds the request, in order.
	Readable [][]byte
	// Writable has room for the reply, in order.
	Writable [][]byte
}

// Waits says that the request looks like one that waits until another request
// is served, so that it must not hold up the others. It is a hint: the guest
// may change the request before Handle reads it.
func (r *Request) Waits() bool {
	opcode, node := r.target()
	return opcode == opSetlkw || opcode == opIoctl && node == rootID
}

// Slow says that the request looks like one that takes as long as a disk does,
// or longer. It is a hint as well.
func (r *Request) Slow() bool {
	switch opcode, _ := r.target(); opcode {
	case opFsync, opFsyncdir, opSyncfs, opFallocate, opCopyFileRange:
		return true
	}
	return false
}

// target is the opcode and the node of the request at this moment, 0 when it
// has none.
func (r *Request) target() (opcode uint32, node uint64) {
	var p [24]byte
	if gather(p[:], r.Readable, 0) < len(p) {
		return 0, 0
	}
	return binary.LittleEndian.Uint32(p[4:]), binary.LittleEndian.Uint64(p[16:])
}

// header is struct fuse_in_header.
type header struct {
	length, opcode uint32
	unique, nodeID uint64
	uid, gid       uint32
	pid            uint32 // of the thread, 0 for the kernel's own requests
}

// call is a request that is being served.
type call struct {
	header
	req *Request
	// body is a private copy of what follows the header; of WRITE without its
	// data.
	body []byte
	// room is how many bytes the reply may have after its header.
	room int
	// out builds the reply, after its header.
	out encoder
	// direct counts bytes that a handler put after the reply's header itself.
	direct int

	in [inHeaderSize]byte
}

// keepBody is the largest buffer that is kept for the next request.
const keepBody = 8 << 10

var calls = sync.Pool{New: func() any {
	return &call{body: make([]byte, 0, 512), out: encoder{b: make([]byte, 0, 512)}}
}}

func (c *call) release() {
	c.req, c.direct = nil, 0
	if cap(c.body) > keepBody {
		c.body = make([]byte, 0, 512)
	}
	if cap(c.out.b) > keepBody {
		c.out.b = make([]byte, 0, 512)
	}
	c.body, c.out.b = c.body[:0], c.out.b[:0]
	calls.Put(c)
}

// parse copies the header and the body. Without a valid header the request
// can't be answered; ok is false then. With one, err says what else is wrong.
func (c *call) parse(r *Request) (ok bool, err error) {
	c.req = r
	total := size(r.Readable)
	if gather(c.in[:], r.Readable, 0) < inHeaderSize {
		return false, nil
	}
	c.header = header{
		length: binary.LittleEndian.Uint32(c.in[0:]),
		opcode: binary.LittleEndian.Uint32(c.in[4:]),
		unique: binary.LittleEndian.Uint64(c.in[8:]),
		nodeID: binary.LittleEndian.Uint64(c.in[16:]),
		uid:    binary.LittleEndian.Uint32(c.in[24:]),
		gid:    binary.LittleEndian.Uint32(c.in[28:]),
		pid:    binary.LittleEndian.Uint32(c.in[32:]),
	}
	c.room = min(size(r.Writable), maxIO+4096) - outHeaderSize
	if int(c.length) != total {
		return true, errMalformed
	}
	n := total - inHeaderSize
	if c.opcode == opWrite {
		n = min(n, writeInSize)
	}
	if n > maxBody {
		return true, errMalformed
	}
	if cap(c.body) < n {
		c.body = make([]byte, n)
	}
	c.body = c.body[:n]
	gather(c.body, r.Readable, inHeaderSize)
	return true, nil
}

// finish writes the reply and returns its length, 0 when there is no room for
// a header.
func (c *call) finish(err error) int {
	if c.room < 0 {
		return 0
	}
	var h [outHeaderSize]byte
	length := outHeaderSize
	if err == nil {
		length += scatter(c.req.Writable, outHeaderSize, c.out.b) + c.direct
	} else {
		binary.LittleEndian.PutUint32(h[4:], uint32(-int32(errnoOf(err))))
	}
	binary.LittleEndian.PutUint32(h[0:], uint32(length))
	binary.LittleEndian.PutUint64(h[8:], c.unique)
	scatter(c.req.Writable, 0, h[:])
	return length
}

// dropBody gives the body's memory back, when all was taken from it and the request is
// about to wait: a guest may have many wait, with bodies as long as it likes.
func (c *call) dropBody() { c.body = nil }

// args decodes the body.
func (c *call) args() decoder { return decoder{b: c.body} }

// errMalformed answers a request that breaks the protocol.
const errMalformed = unix.EIO

// errnoOf is the error number that tells a guest of err.
func errnoOf(err error) unix.Errno {
	if e, ok := err.(unix.Errno); ok && e > 0 && e < 512 {
		return e
	}
	return unix.EIO
}
