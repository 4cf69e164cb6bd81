package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/agent/api"
)

// Stdio names a process's standard streams by their URLs; an empty one is
// /dev/null. A terminal has no stderr.
type Stdio struct {
	Stdin, Stdout, Stderr string
	Terminal              bool
}

// plumbing connects a process's standard streams with its descriptors. Calls
// come in this order: connect, then pipes or console, start, exited. The
// others may come any time after connect.
type plumbing struct {
	terminal              bool
	plain                 bool       // the terminal writes newlines as they are
	stdin, stdout, stderr api.Stream // nil where the process has /dev/null
	wg                    sync.WaitGroup

	mu      sync.Mutex
	inputs  []*input
	outputs []*output
	master  *os.File      // the terminal, once there is one
	size    *unix.Winsize // asked for before there was one
}

// connect claims the streams of stdio.
func (s *Streams) connect(ctx context.Context, stdio Stdio) (*plumbing, error) {
	if stdio.Terminal && stdio.Stderr != "" {
		return nil, fail(ErrInvalid, "a terminal has no stderr stream")
	}
	p := &plumbing{terminal: stdio.Terminal, plain: api.HasPlainNewlines(stdio.Stdout)}
	for _, c := range []struct {
		url    string
		stream *api.Stream
	}{{stdio.Stdin, &p.stdin}, {stdio.Stdout, &p.stdout}, {stdio.Stderr, &p.stderr}} {
		if c.url == "" {
			continue
		}
		stream, err := s.claim(ctx, c.url)
		if err != nil {
			p.close()
			return nil, err
		}
		*c.stream = stream
	}
	return p, nil
}

// childFiles are what a process gets as its descriptors 0 to 2.
type childFiles [3]*os.File

func (c *childFiles) close() {
	for _, f := range c {
		if f != nil {
			f.Close()
		}
	}
}

// pipes makes the process's ends, owned by uid and gid. Nothing flows before
// start.
func (p *plumbing) pipes(uid, gid int) (*childFiles, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var c childFiles
	err := errors.Join(p.inputPipe(&c[0]), p.outputPipe(&c[1], p.stdout), p.outputPipe(&c[2], p.stderr))
	if err == nil {
		err = c.chown(uid, gid)
	}
	if err != nil {
		c.close()
		return nil, fmt.Errorf("make standard streams: %w", err)
	}
	return &c, nil
}

func (c *childFiles) chown(uid, gid int) error {
	for _, f := range c {
		if f.Name() == os.DevNull {
			continue
		}
		if err := f.Chown(uid, gid); err != nil {
			return err
		}
	}
	return nil
}

func (p *plumbing) inputPipe(child **os.File) error {
	if p.stdin == nil {
		return openNull(child)
	}
	r, w, err := pipe()
	if err != nil {
		return err
	}
	*child = os.NewFile(uintptr(r), "stdin")
	f, err := pollable(w, "stdin")
	if err != nil {
		return err
	}
	p.inputs = append(p.inputs, &input{src: p.stdin, dst: f, pipe: true})
	return nil
}

func (p *plumbing) outputPipe(child **os.File, dst api.Stream) error {
	if dst == nil {
		return openNull(child)
	}
	r, w, err := pipe()
	if err != nil {
		return err
	}
	*child = os.NewFile(uintptr(w), "stdout")
	f, err := pollable(r, "stdout")
	if err != nil {
		return err
	}
	p.outputs = append(p.outputs, &output{src: f, dst: dst, pipe: true})
	return nil
}

func openNull(f **os.File) (err error) {
	*f, err = os.OpenFile(os.DevNull, os.O_RDWR, 0)
	return err
}

func pipe() (r, w int, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return -1, -1, fmt.Errorf("make pipe: %w", err)
	}
	return fds[0], fds[1], nil
}

// pollable makes a file of fd whose blocked calls end when it is closed. Only
// this end becomes non-blocking, not the process's.
func pollable(fd int, name string) (*os.File, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("set non-blocking: %w", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// start lets the bytes flow; the process is there.
func (p *plumbing) start() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, in := range p.inputs {
		p.wg.Go(in.run)
	}
	for _, out := range p.outputs {
		p.wg.Go(out.run)
	}
}

// closeInput closes the process's standard input. A terminal's stays open.
func (p *plumbing) closeInput() {
	if p.terminal {
		return
	}
	p.endInput()
}

func (p *plumbing) endInput() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, in := range p.inputs {
		in.close()
	}
	if p.stdin != nil {
		p.stdin.Close()
	}
}

// exited says that the process has ended: its input ends, and its output as
// soon as everything is delivered that was written up to now, even if some
// other process still holds it open.
func (p *plumbing) exited() {
	p.endInput()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, out := range p.outputs {
		out.src.SetReadDeadline(time.Unix(1, 0))
	}
}

// close ends everything at once and waits for it.
func (p *plumbing) close() {
	p.endInput()
	p.mu.Lock()
	for _, s := range []api.Stream{p.stdout, p.stderr} {
		if s != nil {
			s.Close()
		}
	}
	for _, out := range p.outputs {
		out.src.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
}
