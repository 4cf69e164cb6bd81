package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/agent/api"
)

// backlog of the listener: streams come in bursts of three per process.
const backlog = 128

// ErrUnreachable says that nobody serves the machine's socket: it is gone.
var ErrUnreachable = errors.New("the machine cannot be reached")

// Listen makes the unix socket at path, which may be longer than the 108 bytes
// of a socket address. Nobody else may connect, whatever directory and umask are.
func Listen(path string) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("create socket: %w", err)
	}
	f := os.NewFile(uintptr(fd), path)
	if err := unix.Fchmod(fd, 0o600); err != nil { // what bind makes has this mode
		f.Close()
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	err = throughParent(path, func(short string) error {
		return unix.Bind(fd, &unix.SockaddrUnix{Name: short})
	})
	if err == nil {
		err = unix.Listen(fd, backlog)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return f, nil
}

// maxAddress is what fits sockaddr_un with its final zero.
const maxAddress = 107

// throughParent calls use with a name for path that fits a socket address and
// holds during the call.
func throughParent(path string, use func(short string) error) error {
	if len(path) <= maxAddress {
		return use(path)
	}
	dir, err := os.OpenFile(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer dir.Close()
	return use("/proc/self/fd/" + strconv.Itoa(int(dir.Fd())) + "/" + filepath.Base(path))
}

// Dial connects to a port of the guest whose machine made the socket.
func Dial(ctx context.Context, socket string, port uint32) (*net.UnixConn, error) {
	c, err := Connect(ctx, socket)
	if errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("dial port %d: %w", port, ErrUnreachable)
	}
	if err != nil {
		return nil, fmt.Errorf("dial port %d: %w", port, err)
	}
	// Ends the handshake with the context.
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	err = handshake(c, port)
	if !stop() {
		err = ctx.Err()
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("dial port %d: %w", port, err)
	}
	return c.(*net.UnixConn), nil
}

// crowdedPause is how long a connection waits for room in the backlog.
const crowdedPause = 5 * time.Millisecond

// Connect connects to the unix socket at a path of any length. One whose backlog is full answers a
// non-blocking connect at once with EAGAIN, and nothing tells when there is room.
func Connect(ctx context.Context, socket string) (c net.Conn, err error) {
	for {
		err = throughParent(socket, func(short string) (err error) {
			c, err = new(net.Dialer).DialContext(ctx, "unix", short)
			return err
		})
		if !errors.Is(err, unix.EAGAIN) {
			return c, err
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), err)
		case <-time.After(crowdedPause):
		}
	}
}

// handshake asks for port, see control.Vsock.
func handshake(c io.ReadWriter, port uint32) error {
	if _, err := fmt.Fprintf(c, "CONNECT %d\n", port); err != nil {
		return err
	}
	line, err := readLine(c)
	if text, refused := strings.CutPrefix(line, "ERR "); refused {
		return errors.New(api.Printable(text, len(text)))
	}
	if err != nil {
		return fmt.Errorf("%w: connection refused: %w", ErrUnreachable, err)
	}
	if !strings.HasPrefix(line, "OK ") {
		return fmt.Errorf("unexpected answer %q", line)
	}
	return nil
}

// readLine reads byte by byte: what follows is the stream's.
func readLine(r io.Reader) (string, error) {
	const longest = 256
	var line []byte
	var b [1]byte
	for len(line) < longest {
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return string(line), err
		}
		if b[0] == '\n' {
			return string(line), nil
		}
		line = append(line, b[0])
	}
	return "", errors.New("answer is too long")
}
