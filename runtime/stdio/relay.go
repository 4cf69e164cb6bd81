package stdio

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Conn is a connection into the guest that can be closed in one direction.
type Conn interface {
	net.Conn
	CloseWrite() error
}

// bufferSize is what is moved at a time: a pipe's capacity.
const bufferSize = 64 << 10

// Relay copies between descriptors and connections. It owns its connections;
// descriptors stay the caller's.
type Relay struct {
	stop    *os.File // its close wakes the input copy
	stopped *os.File // the other end

	inputs, outputs sync.WaitGroup

	mu    sync.Mutex
	conns []Conn
	err   error // first failure of an output
}

// NewRelay makes a relay with nothing to do.
func NewRelay() (*Relay, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("create relay: %w", err)
	}
	return &Relay{stop: w, stopped: r}, nil
}

// Input copies from the descriptor fd to c and half-closes c at fd's end. It
// stops early when the guest does not read any more.
func (r *Relay) Input(c Conn, fd int) {
	r.adopt(c)
	r.inputs.Go(func() {
		if r.copyInput(c, fd) {
			// The guest may have gone already.
			_ = c.CloseWrite()
		}
	})
}

// Output copies from c to the descriptor fd, until the guest's half-close.
// When fd cannot be written to, the guest is told by a closed connection.
func (r *Relay) Output(fd int, c Conn) {
	r.adopt(c)
	r.outputs.Go(func() { r.output(fd, c) })
}

// OutputFile is Output to a file that becomes the relay's, and is closed after
// the last byte: whoever reads a fifo or a pipe sees the end then.
func (r *Relay) OutputFile(f *os.File, c Conn) {
	r.adopt(c)
	r.outputs.Go(func() {
		defer f.Close()
		r.output(int(f.Fd()), c)
	})
}

func (r *Relay) output(fd int, c Conn) {
	if err := copyOutput(fd, c); err != nil {
		r.fail(err)
		c.Close()
	}
}

// Wait returns when all output has been written, with the first error of one.
func (r *Relay) Wait() error {
	r.outputs.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// Close drops what is under way, and waits until nothing is. Output that is to
// be kept is waited for with Wait before.
func (r *Relay) Close() {
	r.stop.Close()
	r.mu.Lock()
	for _, c := range r.conns {
		c.Close()
	}
	r.mu.Unlock()
	r.inputs.Wait()
	r.outputs.Wait()
	r.stopped.Close()
}

func (r *Relay) adopt(c Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conns = append(r.conns, c)
}

func (r *Relay) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = err
	}
}

// copyInput reports whether it came to fd's end.
func (r *Relay) copyInput(c Conn, fd int) bool {
	buf := make([]byte, bufferSize)
	stop := int(r.stopped.Fd())
	for {
		n, err := readOrStop(fd, stop, buf)
		if errors.Is(err, errStopped) {
			return false
		}
		if n <= 0 || err != nil {
			return true // a broken input ends like any other
		}
		if _, err := c.Write(buf[:n]); err != nil {
			return false
		}
	}
}

var errStopped = errors.New("stopped")

// readOrStop reads from fd, blocking or not, unless stop becomes readable or
// is hung up.
func readOrStop(fd, stop int, p []byte) (int, error) {
	for {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(stop), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return 0, err
		}
		if fds[1].Revents != 0 {
			return 0, errStopped
		}
		if fds[0].Revents == 0 {
			continue
		}
		n, err := unix.Read(fd, p)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) {
			continue
		}
		return n, err
	}
}

// copyOutput copies to fd until c's end. Its error is fd's; a connection that
// breaks ends the output like the guest's half-close does, and whoever waits
// for the process learns why.
func copyOutput(fd int, c Conn) error {
	buf := make([]byte, bufferSize)
	for {
		n, err := c.Read(buf)
		if werr := writeAll(fd, buf[:n]); werr != nil {
			return fmt.Errorf("write output: %w", werr)
		}
		if err != nil {
			return nil
		}
	}
}

// writeAll writes p to fd, which may be non-blocking: others that share it
// may have made it so.
func writeAll(fd int, p []byte) error {
	for len(p) > 0 {
		n, err := unix.Write(fd, p)
		switch {
		case errors.Is(err, unix.EAGAIN):
			if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, -1); err != nil && !errors.Is(err, unix.EINTR) {
				return err
			}
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		case n == 0:
			return io.ErrShortWrite
		default:
			p = p[n:]
		}
	}
	return nil
}
