package api

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
)

const namesVerb = "NAMES "

// ServeNames has the agent listen where a name server is in the containers'
// network namespace, and pass on what it is asked: conn, a fresh connection to
// [PortDial], carries [NameMessage]s afterwards, questions to the host and
// answers to the guest, until it is closed.
func ServeNames(conn io.ReadWriter, at netip.AddrPort) error {
	return ask(conn, namesVerb, at)
}

// NameMessage is a question for a name server, or its answer.
type NameMessage struct {
	// ID joins an answer to its question.
	ID uint32
	// Stream says that it came over TCP, where answers may be longer.
	Stream bool
	// Message is one of DNS (RFC 1035, section 4.1).
	Message []byte
}

// nameHeader is the size of a message's header: the ID in four bytes, a byte
// that is 1 for a stream, and the length in two, all of the network's order.
const nameHeader = 7

// Write sends m in one piece. Its Message must be shorter than 64 KiB.
func (m *NameMessage) Write(w io.Writer) error {
	p := binary.BigEndian.AppendUint32(make([]byte, 0, nameHeader+len(m.Message)), m.ID)
	stream := byte(0)
	if m.Stream {
		stream = 1
	}
	p = binary.BigEndian.AppendUint16(append(p, stream), uint16(len(m.Message)))
	if _, err := w.Write(append(p, m.Message...)); err != nil {
		return fmt.Errorf("send names: %w", err)
	}
	return nil
}

// Read receives m.
func (m *NameMessage) Read(r io.Reader) error {
	var h [nameHeader]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return fmt.Errorf("receive names: %w", err)
	}
	m.ID, m.Stream = binary.BigEndian.Uint32(h[:]), h[4] == 1
	m.Message = make([]byte, binary.BigEndian.Uint16(h[5:]))
	if _, err := io.ReadFull(r, m.Message); err != nil {
		return fmt.Errorf("receive names: %w", err)
	}
	return nil
}

// ReadStreamed receives a message of DNS that came over TCP, behind its length
// (RFC 1035, section 4.2.2).
func ReadStreamed(r io.Reader) ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	p := make([]byte, binary.BigEndian.Uint16(length[:]))
	_, err := io.ReadFull(r, p)
	return p, err
}

// WriteStreamed is the inverse of [ReadStreamed]. p must be shorter than 64 KiB.
func WriteStreamed(w io.Writer, p []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(p))), p...))
	return err
}
