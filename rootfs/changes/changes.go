// Package changes is the protocol by which the agent of a guest learns what
// happens on the host to the files that processes of the guest watch
// (inotify(7), fanotify(7)), and lets these know.
//
// virtio-fs has no messages to the guest. So the agent asks: by ioctls on the
// root directory of the share, the last of which waits. For each [Change] it
// does to the share what was done on the host (it makes the file that is new,
// removes the one that is gone), and the guest's kernel tells whoever watches,
// as it does of every operation. The server knows the agent by its thread, says
// yes to all of it, and does nothing.
package changes

import (
	"bytes"
	"encoding/binary"
	"errors"
)

// Sizes of the ioctls' arguments in bytes.
const (
	IDsSize  = 4 << 10  // ids of 8 bytes each; 0 ends the list
	NextSize = 12 << 10 // a Change
)

// Ioctls on the root directory of the share, with the encoding of
// asm-generic/ioctl.h. Numbers are little-endian.
const (
	// Watch adds files and directories to what is watched, by their node ids.
	Watch = write<<30 | IDsSize<<16 | 'm'<<8 | 1
	// Unwatch takes some away.
	Unwatch = write<<30 | IDsSize<<16 | 'm'<<8 | 2
	// Next waits for a change, for at most as many milliseconds as its first
	// four bytes say.
	Next = (write|read)<<30 | NextSize<<16 | 'm'<<8 | 3

	write, read = 1, 2
)

// Kind is what was done to a file.
type Kind uint32

// Kinds of changes.
const (
	None    Kind = iota // nothing has happened in time
	Create              // it is new
	Modify              // its content is another
	Attrib              // its attributes are
	Written             // it was closed after writing
	Delete              // its name is gone
	Move                // it has another name
)

// Elsewhere names a directory, in any other, where files come from, and go to,
// that are moved across the border of what is watched. Only the agent finds it.
const Elsewhere = ".microvm-elsewhere"

// Change is something that happened to a file.
type Change struct {
	Kind Kind
	// Mode has the type of the file, the bits of S_IFMT.
	Mode uint32
	// Dir is the path of the directory in the share, without a slash at either
	// end; empty for the root. Name is the file's name there.
	Dir, Name string
	// ToDir and ToName are the new place of what was moved.
	ToDir, ToName string
}

// Append appends c as the server sends it, which is never longer than NextSize
// when its paths are no longer than PATH_MAX.
func (c *Change) Append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(c.Kind))
	b = binary.LittleEndian.AppendUint32(b, c.Mode)
	for _, s := range []string{c.Dir, c.Name, c.ToDir, c.ToName} {
		b = append(append(b, s...), 0)
	}
	return b
}

// Parse is the inverse of [Change.Append].
func (c *Change) Parse(b []byte) error {
	if len(b) < 8 {
		return errors.New("change is cut short")
	}
	c.Kind, c.Mode = Kind(binary.LittleEndian.Uint32(b)), binary.LittleEndian.Uint32(b[4:])
	b = b[8:]
	for _, s := range []*string{&c.Dir, &c.Name, &c.ToDir, &c.ToName} {
		v, rest, ok := bytes.Cut(b, []byte{0})
		if !ok {
			return errors.New("change is cut short")
		}
		*s, b = string(v), rest
	}
	return nil
}
