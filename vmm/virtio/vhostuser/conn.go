package vhostuser

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// message is one request with the descriptors that came along.
type message struct {
	header
	payload []byte
	fds     []int
}

// takeFD gives descriptor i to the caller. The message must have it.
func (m *message) takeFD(i int) int {
	fd := m.fds[i]
	m.fds[i] = -1
	return fd
}

// close closes the descriptors that nobody took.
func (m *message) close() {
	for _, fd := range m.fds {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
	m.fds = nil
}

// conn reads requests from and writes replies to a stream socket.
type conn struct{ c *net.UnixConn }

// openConn takes over f.
func openConn(f *os.File) (*conn, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("open vhost-user socket: %w", err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, errors.New("open vhost-user socket: not a unix socket")
	}
	return &conn{u}, nil
}

// receive reads the next request, whose descriptors are the caller's to close.
// It returns io.EOF when the front end hung up between two of them.
func (c *conn) receive() (*message, error) {
	m := &message{}
	var head [headerSize]byte
	err := c.fill(m, head[:])
	if err == nil {
		m.header, err = parseHeader(head[:])
	}
	if err == nil {
		m.payload = make([]byte, m.size)
		err = c.fill(m, m.payload)
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
	}
	if err != nil {
		m.close()
		return nil, err
	}
	return m, nil
}

// fill reads exactly len(p) bytes and adds what descriptors come with them to
// m. A stream may deliver a message in pieces.
func (c *conn) fill(m *message, p []byte) error {
	oob := make([]byte, unix.CmsgSpace(4*maxFDs))
	for off := 0; off < len(p); {
		n, oobn, flags, _, err := c.c.ReadMsgUnix(p[off:], oob)
		if errors.Is(err, io.EOF) && off == 0 {
			return io.EOF
		}
		if err != nil {
			return fmt.Errorf("receive vhost-user message: %w", err)
		}
		if err := m.addRights(oob[:oobn]); err != nil {
			return err
		}
		if flags&unix.MSG_CTRUNC != 0 || len(m.fds) > maxFDs {
			return fmt.Errorf("%w: over %d descriptors in a message", ErrProtocol, maxFDs)
		}
		off += n
	}
	return nil
}

func (m *message) addRights(oob []byte) error {
	if len(oob) == 0 {
		return nil
	}
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return fmt.Errorf("parse control message: %w", err)
	}
	for i := range msgs {
		if fds, err := unix.ParseUnixRights(&msgs[i]); err == nil {
			m.fds = append(m.fds, fds...)
		}
	}
	return nil
}

// reply answers request r.
func (c *conn) reply(r request, payload []byte) error {
	if _, err := c.c.Write(encodeReply(r, payload)); err != nil {
		return fmt.Errorf("send vhost-user reply: %w", err)
	}
	return nil
}

func (c *conn) close() { c.c.Close() }
