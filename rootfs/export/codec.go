package export

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// decoder takes little-endian fields off the front of a private copy of a
// request. Past the end it yields zeros; dispatch has checked the length of
// every fixed part before, and names and values check for themselves.
type decoder struct {
	b []byte
}

func (d *decoder) u32() uint32 {
	if len(d.b) < 4 {
		d.b = nil
		return 0
	}
	v := binary.LittleEndian.Uint32(d.b)
	d.b = d.b[4:]
	return v
}

func (d *decoder) u64() uint64 {
	if len(d.b) < 8 {
		d.b = nil
		return 0
	}
	v := binary.LittleEndian.Uint64(d.b)
	d.b = d.b[8:]
	return v
}

func (d *decoder) skip(n int) { d.b = d.b[min(n, len(d.b)):] }

// bytes takes n bytes, or fails with EINVAL when there are fewer.
func (d *decoder) bytes(n uint32) ([]byte, error) {
	if uint64(n) > uint64(len(d.b)) {
		return nil, unix.EINVAL
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v, nil
}

// str takes a string that ends with NUL.
func (d *decoder) str() (string, error) {
	i := bytes.IndexByte(d.b, 0)
	if i < 0 {
		return "", unix.EINVAL
	}
	v := string(d.b[:i])
	d.b = d.b[i+1:]
	return v, nil
}

// name takes a file name: one component that stays in its directory.
func (d *decoder) name() (string, error) {
	name, err := d.str()
	if err != nil {
		return "", err
	}
	return name, checkName(name)
}

// checkName refuses what is not the name of a directory's own child.
func checkName(name string) error {
	if len(name) > maxName {
		return unix.ENAMETOOLONG
	}
	if name == "" || name == "." || name == ".." {
		return unix.EINVAL
	}
	for i := range len(name) {
		if name[i] == '/' || name[i] == 0 {
			return unix.EINVAL
		}
	}
	return nil
}

// encoder appends little-endian fields to a reply.
type encoder struct {
	b []byte
}

func (e *encoder) u16(v uint16) { e.b = binary.LittleEndian.AppendUint16(e.b, v) }
func (e *encoder) u32(v uint32) { e.b = binary.LittleEndian.AppendUint32(e.b, v) }
func (e *encoder) u64(v uint64) { e.b = binary.LittleEndian.AppendUint64(e.b, v) }

var zeros [64]byte

func (e *encoder) zero(n int) { e.b = append(e.b, zeros[:n]...) }

// align8 pads the reply to a multiple of eight bytes.
func (e *encoder) align8() { e.zero(-len(e.b) & 7) }
