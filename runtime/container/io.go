package container

import (
	"context"
	"errors"
	"net"
	"sync"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/microvm/microvm/agent/api"
	"github.com/microvm/microvm/runtime/sandbox"
	"github.com/microvm/microvm/runtime/stdio"
)

// streams are a process's standard streams, connected with this process's own
// or with a terminal.
type streams struct {
	// URLs for the agent; stderr is empty for a terminal.
	stdin, stdout, stderr string

	relay    *stdio.Relay
	terminal *stdio.Terminal // nil without one
	conns    []stdio.Conn    // stdin, stdout, stderr; until flow
}

// ioRequest says how a process's streams are wanted.
type ioRequest struct {
	terminal bool
	size     *specs.Box
	// consoleSocket takes the terminal; without it, it is this process's own.
	consoleSocket string
}

// checkIO refuses what cannot work before anything is done, with runc's words.
func checkIO(terminal, detach bool, consoleSocket string) error {
	if detach && terminal && consoleSocket == "" {
		return errors.New("cannot allocate tty if microvm-runtime will detach without setting console socket")
	}
	if (!detach || !terminal) && consoleSocket != "" {
		return errors.New("cannot use console socket if microvm-runtime will not detach or allocate tty")
	}
	return nil
}

// openStreams makes the terminal, if there is to be one, and the connections
// into the guest whose machine made socket. Nothing flows before flow.
func openStreams(ctx context.Context, socket string, r ioRequest) (*streams, error) {
	relay, err := stdio.NewRelay()
	if err != nil {
		return nil, err
	}
	s := &streams{relay: relay}
	if r.terminal {
		err = s.openTerminal(r)
	}
	if err == nil {
		err = s.connect(ctx, socket, r)
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *streams) openTerminal(r ioRequest) (err error) {
	if r.consoleSocket == "" {
		s.terminal, err = stdio.OpenTerminal()
		return err
	}
	master, slave, err := stdio.NewPTY()
	if err != nil {
		return err
	}
	defer master.Close()
	s.terminal = slave
	if r.size != nil {
		if err := slave.SetSize(int(r.size.Width), int(r.size.Height)); err != nil {
			return err
		}
	}
	if err := slave.TakeControl(); err != nil {
		return err
	}
	return stdio.SendTerminal(r.consoleSocket, master)
}

// connect opens the streams, all at once, and names them. A terminal of the
// caller's treats newlines itself, so that there are no carriage returns in a
// file or pipe that its output goes to.
func (s *streams) connect(ctx context.Context, socket string, r ioRequest) error {
	urls := []*string{&s.stdin, &s.stdout, &s.stderr}
	if r.terminal {
		urls = urls[:2]
	}
	conns, ids, errs := make([]*net.UnixConn, len(urls)), make([]string, len(urls)), make([]error, len(urls))
	var wg sync.WaitGroup
	for i := range urls {
		wg.Go(func() { conns[i], ids[i], errs[i] = sandbox.OpenStream(ctx, socket) })
	}
	wg.Wait()
	for i, c := range conns {
		if c != nil {
			*urls[i] = api.StreamURL(ids[i])
			s.conns = append(s.conns, c)
		}
	}
	if r.terminal && r.consoleSocket == "" {
		s.stdout = api.PlainStreamURL(ids[1])
	}
	return errors.Join(errs...)
}

// flow lets the bytes flow; the process exists in the guest. The terminal of
// the caller becomes raw, but for its output.
func (s *streams) flow(own bool) error {
	fds := [3]int{0, 1, 2} // the standard streams
	if s.terminal != nil && own {
		if err := s.terminal.RawInput(); err != nil {
			return err
		}
	} else if s.terminal != nil {
		fds = [3]int{s.terminal.FD(), s.terminal.FD()}
	}
	s.relay.Input(s.conns[0], fds[0])
	for i, c := range s.conns[1:] {
		s.relay.Output(fds[i+1], c)
	}
	s.conns = nil
	return nil
}

// drain waits until all output is written.
func (s *streams) drain() error { return s.relay.Wait() }

// Close drops what is under way and gives the terminal back as it was.
func (s *streams) Close() {
	for _, c := range s.conns {
		c.Close()
	}
	s.relay.Close()
	if s.terminal != nil {
		s.terminal.Close()
	}
}
