package task

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/agent/api"
	"github.com/microvm/microvm/runtime/sandbox"
	"github.com/microvm/microvm/runtime/stdio"
)

// drainGrace is how long a reader may take to make room for the last output.
const drainGrace = 10 * time.Second

// streams connect what containerd names as a process's standard streams with
// connections into the guest. Calls come in this order: openStreams, flow, admit,
// drain, close; closeInput comes any time after flow. A nil one does nothing.
type streams struct {
	wanted stdioNames
	guest  stdioNames // as the agent knows them

	relay   *stdio.Relay
	conns   [3]stdio.Conn // until they flow; nil where nothing is wanted
	outputs [3]*os.File   // until they flow
	logger  *logger

	mu     sync.Mutex
	stdin  *os.File
	keeper *os.File // holds stdin's fifo open for writing
}

// openStreams opens both ends. Nothing flows before flow.
func openStreams(ctx context.Context, vm *sandbox.VM, id string, wanted stdioNames) (*streams, error) {
	relay, err := stdio.NewRelay()
	if err != nil {
		return nil, err
	}
	s := &streams{wanted: wanted, relay: relay, guest: stdioNames{Terminal: wanted.Terminal}}
	if err = s.openHost(ctx, id); err == nil {
		err = s.openGuest(ctx, vm)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *streams) openHost(ctx context.Context, id string) (err error) {
	u, err := url.Parse(s.wanted.Stdout)
	if err != nil {
		return fmt.Errorf("open stdout: %w", err)
	}
	switch u.Scheme {
	case "", "fifo":
		return s.openOutputs(u.Path, s.wanted.Stderr)
	case "file":
		return s.openLogFile(u.Path)
	case "binary":
		s.logger, err = startLogger(ctx, u, id)
		if err == nil {
			s.outputs[1], s.outputs[2] = s.logger.stdout, s.logger.stderr
		}
		return err
	}
	return fmt.Errorf("open stdout: scheme %q is not supported: name a fifo, or a file:// or binary:// URI", u.Scheme)
}

// openOutputs opens fifos for both directions: the process must not be hurt by
// a reader that goes away.
func (s *streams) openOutputs(stdout, stderr string) (err error) {
	if s.wanted.Terminal {
		stderr = ""
	}
	for i, path := range []string{1: stdout, 2: stderr} {
		if path == "" {
			continue
		}
		if s.outputs[i], err = openFile(path, unix.O_RDWR); err != nil {
			return fmt.Errorf("open output: %w", err)
		}
	}
	return nil
}

func (s *streams) openLogFile(path string) (err error) {
	const flags = unix.O_WRONLY | unix.O_APPEND | unix.O_CREAT
	if s.outputs[1], err = openFile(path, flags); err == nil && !s.wanted.Terminal {
		s.outputs[2], err = openFile(path, flags)
	}
	if err != nil {
		return fmt.Errorf("open log file: %w", err)
	}
	return nil
}

// openFile opens path without making it known to the poller.
func openFile(path string, flags int) (*os.File, error) {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

func (s *streams) openGuest(ctx context.Context, vm *sandbox.VM) error {
	ctx, cancel := context.WithTimeout(ctx, answerGrace)
	defer cancel()
	urls := []*string{&s.guest.Stdin, &s.guest.Stdout, &s.guest.Stderr}
	for i, f := range s.outputs {
		if i == 0 && s.wanted.Stdin == "" || i > 0 && f == nil || i == 2 && s.wanted.Terminal {
			continue
		}
		c, id, err := sandbox.OpenStream(ctx, vm.Socket())
		if err != nil {
			return err
		}
		s.conns[i], *urls[i] = c, api.StreamURL(id)
	}
	return nil
}

// flow lets output flow; the process exists in the guest.
func (s *streams) flow() {
	for i := 1; i < len(s.conns); i++ {
		if c := s.conns[i]; c != nil {
			s.relay.OutputFile(s.outputs[i], c)
			s.conns[i], s.outputs[i] = nil, nil
		}
	}
}

// admit lets input flow, if it does not yet. The process is about to start:
// until then nobody reads its fifo, for ctr tells of an input's end only after
// it has heard that the process was made, and cannot write before either.
func (s *streams) admit() error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns[0] == nil {
		return nil
	}
	if err := s.openInput(); err != nil {
		return err
	}
	s.relay.Input(s.conns[0], int(s.stdin.Fd()))
	s.conns[0] = nil
	return nil
}

// openInput opens the fifo such that it has no end while keeper is open:
// writers may come and go.
func (s *streams) openInput() (err error) {
	if s.stdin, err = openFile(s.wanted.Stdin, unix.O_RDONLY|unix.O_NONBLOCK); err != nil {
		return fmt.Errorf("open stdin: %w", err)
	}
	if s.keeper, err = openFile(s.wanted.Stdin, unix.O_WRONLY|unix.O_NONBLOCK); err != nil {
		return fmt.Errorf("open stdin: %w", err)
	}
	return nil
}

// closeInput lets stdin end as soon as its writers are gone. What is in the
// fifo still goes to the process.
func (s *streams) closeInput() error {
	if s == nil {
		return nil
	}
	if err := s.admit(); err != nil {
		return err
	}
	s.closeKeeper()
	return nil
}

func (s *streams) closeKeeper() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keeper != nil {
		s.keeper.Close()
	}
}

var errUnread = errors.New("its reader takes no more")

// drain waits until all output is written.
func (s *streams) drain() error {
	if s == nil {
		return nil
	}
	written := make(chan error, 1)
	go func() { written <- s.relay.Wait() }()
	select {
	case err := <-written:
		return err
	case <-time.After(drainGrace):
		return fmt.Errorf("output is lost: %w", errUnread)
	}
}

// close ends the streams. A relay that a full fifo holds up goes on in the
// background.
func (s *streams) close() {
	if s == nil {
		return
	}
	s.closeKeeper()
	ended := make(chan struct{})
	go func() {
		s.relay.Close()
		s.closeFiles()
		if s.logger != nil {
			s.logger.wait()
		}
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(drainGrace):
	}
}

// closeFiles closes what never flowed, and stdin.
func (s *streams) closeFiles() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		if c != nil {
			c.Close()
		}
	}
	for _, f := range append(s.outputs[:], s.stdin) {
		if f != nil {
			f.Close()
		}
	}
}
