// Package wire is what the two halves of the lab say to each other.
//
// They share two virtio-serial ports. The control port carries, host to guest,
// one Start frame and then Signal, Resize and Pulse frames; guest to host, Stdout and
// Stderr frames and at last one Exit or Failure frame. The input port carries
// Stdin frames from host to guest, an empty one for its end: it is a port of
// its own, so that a command that does not read its input cannot hold back a
// signal.
//
// A frame is a kind (1 byte), the length of the payload (4 bytes, big endian)
// and the payload.
package wire

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
)

// Names of the virtio-serial ports, as the guest finds them in sysfs.
const (
	ControlPort = "lab.control"
	InputPort   = "lab.input"
)

// MaxPayload is the longest payload of one frame in bytes.
const MaxPayload = 1 << 20

const headerSize = 5

// Kind says what a frame's payload is.
type Kind byte

// Kinds of frames; the payload of each is in brackets.
const (
	KindStart   Kind = iota + 1 // the command to run [JSON of Start]
	KindStdin                   // bytes for its standard input, none for the end
	KindStdout                  // bytes it wrote to standard output
	KindStderr                  // bytes it wrote to standard error
	KindSignal                  // signal to send to its process group [JSON of a number]
	KindResize                  // new size of its terminal [JSON of Size]
	KindExit                    // it ended [JSON of its exit code]
	KindFailure                 // it could not be run [text]
	KindPulse                   // nothing, but that it interrupts the guest [empty]
)

// Size is the size of a terminal in characters.
type Size struct {
	Rows, Columns uint16
}

// Start is the command to run in the guest, and what is to be made ready for it.
type Start struct {
	// Args are the command's arguments, the program first.
	Args []string
	// Env is its whole environment.
	Env []string
	// Dir is its working directory.
	Dir string
	// Terminal is the size of the terminal it gets, nil for pipes.
	Terminal *Size `json:",omitempty"`
	// Modules is the host's directory with the guest kernel's modules; it is
	// shown at /lib/modules.
	Modules string
	// Output says that a share tagged "out" is to be mounted on /lab/out.
	Output bool
	// Scratch are directories that get an empty directory of the scratch disk
	// in place of what the host has there.
	Scratch []string `json:",omitempty"`
	// Address is that of the interface to the host, with its network; it is not
	// valid where there is none.
	Address netip.Prefix
}

// Write sends one frame. Callers serialise their calls.
func Write(w io.Writer, kind Kind, payload []byte) error {
	if len(payload) > MaxPayload {
		return fmt.Errorf("write frame: %d bytes are more than %d", len(payload), MaxPayload)
	}
	frame := make([]byte, headerSize, headerSize+len(payload))
	frame[0] = byte(kind)
	binary.BigEndian.PutUint32(frame[1:], uint32(len(payload)))
	if _, err := w.Write(append(frame, payload...)); err != nil {
		return fmt.Errorf("write frame: %w", err)
	}
	return nil
}

// WriteJSON sends one frame whose payload is the JSON form of value.
func WriteJSON(w io.Writer, kind Kind, value any) error {
	payload, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("encode frame: %w", err)
	}
	return Write(w, kind, payload)
}

// Read receives one frame. The end of the stream between two frames is io.EOF.
func Read(r io.Reader) (Kind, []byte, error) {
	var header [headerSize]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return 0, nil, err
	}
	length := binary.BigEndian.Uint32(header[1:])
	if length > MaxPayload {
		return 0, nil, fmt.Errorf("read frame: length %d is more than %d", length, MaxPayload)
	}
	payload := make([]byte, length)
	if _, err := io.ReadFull(r, payload); err != nil {
		return 0, nil, fmt.Errorf("read frame: %w", err)
	}
	return Kind(header[0]), payload, nil
}
