package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// MaxMessage is the largest message in bytes, descriptors apart.
const MaxMessage = 128 << 10

// maxFDs is how many descriptors one message may carry.
const maxFDs = 4

// MaxPairs is how many pairs of queues a network device may have.
const MaxPairs = maxFDs

// Conn is one end of the control socketpair. Send and Receive may be called
// concurrently with each other.
type Conn struct {
	c *net.UnixConn

	mu sync.Mutex // orders writers
}

// Pair makes a connected pair. The second end is a plain file, to be handed to
// another process.
func Pair() (*Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("create control socketpair: %w", err)
	}
	peer := os.NewFile(uintptr(fds[1]), "control")
	c, err := Open(os.NewFile(uintptr(fds[0]), "control"))
	if err != nil {
		peer.Close()
		return nil, nil, err
	}
	return c, peer, nil
}

// Open takes over f, one end of a SOCK_SEQPACKET socketpair.
func Open(f *os.File) (*Conn, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("open control socket: %w", err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, errors.New("open control socket: not a unix socket")
	}
	return &Conn{c: u}, nil
}

// Send writes v as one message with the descriptors of files, which stay the
// caller's.
func (c *Conn) Send(v any, files ...*os.File) error {
	p, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode control message: %w", err)
	}
	if len(p) > MaxMessage {
		return fmt.Errorf("send control message: %d bytes is over %d", len(p), MaxMessage)
	}
	var oob []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		oob = unix.UnixRights(fds...)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, _, err := c.c.WriteMsgUnix(p, oob, nil); err != nil {
		return fmt.Errorf("send control message: %w", err)
	}
	return nil
}

// Receive reads the next message into v and returns the descriptors that came
// along, which are the caller's. At the other end's close it returns io.EOF.
func (c *Conn) Receive(v any) ([]*os.File, error) {
	p := make([]byte, MaxMessage)
	oob := make([]byte, unix.CmsgSpace(4*maxFDs))
	n, oobn, flags, _, err := c.c.ReadMsgUnix(p, oob)
	if err != nil {
		return nil, fmt.Errorf("receive control message: %w", err)
	}
	files, err := parseRights(oob[:oobn])
	if err != nil {
		return nil, err
	}
	if n == 0 {
		closeAll(files)
		return nil, io.EOF
	}
	if flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		closeAll(files)
		return nil, errors.New("receive control message: cut short")
	}
	if err := json.Unmarshal(p[:n], v); err != nil {
		closeAll(files)
		return nil, fmt.Errorf("decode control message: %w", err)
	}
	return files, nil
}

func parseRights(oob []byte) ([]*os.File, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("parse control message: %w", err)
	}
	var files []*os.File
	for i := range msgs {
		fds, err := unix.ParseUnixRights(&msgs[i])
		if err != nil {
			continue
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// Close ends the connection; the other end's Receive returns io.EOF.
func (c *Conn) Close() error { return c.c.Close() }
