package process

import (
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/agent/api"
)

// copySize is as much as a pipe holds.
const copySize = 64 << 10

// input copies from the host to a process, until either ends.
type input struct {
	src  api.Stream
	dst  *os.File
	pipe bool // dst is a pipe, not a terminal: it ends with src
}

func (in *input) run() {
	defer in.src.Close()
	// An error means that one of the two is gone, which is an end like any.
	io.CopyBuffer(struct{ io.Writer }{in.dst}, struct{ io.Reader }{in.src}, make([]byte, copySize))
	if in.pipe {
		in.dst.Close()
	}
}

// close ends the process's input.
func (in *input) close() {
	if in.pipe {
		in.dst.Close()
	}
	in.src.Close()
}

// output copies from a process to the host.
type output struct {
	src  *os.File
	dst  api.Stream // nil throws everything away
	pipe bool       // src is a pipe, not a terminal: it breaks with dst
}

// run copies until src ends, or until it was given a deadline and has no more
// at the moment. Then dst is half-closed, and closed when the host has done so.
func (out *output) run() {
	defer out.src.Close()
	buf := make([]byte, copySize)
	err := out.copy(out.src.Read, buf)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		out.copy(out.readNow, buf)
	}
	if out.dst == nil {
		return
	}
	defer out.dst.Close()
	out.src.Close()
	out.dst.CloseWrite()
	io.Copy(io.Discard, out.dst)
}

// copy sends what read returns until it fails. When the host is gone, a pipe
// breaks for its writer too, while a terminal runs on unseen.
func (out *output) copy(read func([]byte) (int, error), buf []byte) error {
	for {
		n, err := read(buf)
		if werr := out.send(buf[:n]); werr != nil && out.pipe {
			return werr
		}
		if err != nil {
			return err
		}
	}
}

func (out *output) send(p []byte) error {
	if len(p) == 0 || out.dst == nil {
		return nil
	}
	_, err := out.dst.Write(p)
	return err
}

// readNow reads without waiting, although the deadline has passed.
func (out *output) readNow(p []byte) (n int, err error) {
	if err := out.src.SetReadDeadline(time.Time{}); err != nil {
		return 0, err
	}
	raw, err := out.src.SyscallConn()
	if err != nil {
		return 0, err
	}
	rerr := raw.Read(func(fd uintptr) bool {
		n, err = unix.Read(int(fd), p)
		return true
	})
	if err = errors.Join(err, rerr); err != nil {
		return 0, err
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}
