package container

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/containerd/ttrpc"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/microvm/microvm/agent/api"
	"github.com/microvm/microvm/runtime/bundle"
	"github.com/microvm/microvm/runtime/sandbox"
	"github.com/microvm/microvm/runtime/state"
	"github.com/microvm/microvm/runtime/stdio"
)

// ExecRequest asks for one more process in a container.
type ExecRequest struct {
	ID      string
	Process *specs.Process
	// Cgroup to run in, from the container's own on, or "" for that.
	Cgroup string
	// These are as for a container.
	ConsoleSocket, PIDFile, PidfdSocket string
	// IgnorePaused waits for a paused container to be resumed.
	IgnorePaused bool
}

// Exec runs a process in a container with the streams of this process and
// returns its exit code.
func (e *Engine) Exec(ctx context.Context, r ExecRequest) (code int, err error) {
	return e.superviseExec(ctx, r, true, func() error { return nil })
}

// ExecDetached runs a process in a container that has a monitor of its own.
func (e *Engine) ExecDetached(ctx context.Context, r ExecRequest) error {
	for _, p := range []*string{&r.ConsoleSocket, &r.PIDFile, &r.PidfdSocket} {
		if abs, err := filepath.Abs(*p); err == nil && *p != "" {
			*p = abs
		}
	}
	_, err := e.spawn(ctx, monitorRequest{Exec: &r}, r.ConsoleSocket != "")
	return err
}

// announce tells which process stands for the one in the guest.
func (r *ExecRequest) announce(pid int) error {
	if err := writePIDFile(r.PIDFile, pid); err != nil {
		return err
	}
	return stdio.SendPidfd(r.PidfdSocket, stdio.PidfdExec, pid)
}

// superviseExec is the life of an exec's monitor. It calls report when the
// process runs, and ends it if that fails.
func (e *Engine) superviseExec(ctx context.Context, r ExecRequest, foreground bool, report func() error) (code int, err error) {
	if err := e.requireExec(ctx, r); err != nil {
		return -1, err
	}
	if err := checkIO(r.Process.Terminal, !foreground, r.ConsoleSocket); err != nil {
		return -1, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	signals := newForwarder(cancel)
	agent, err := e.dialAgent(ctx, r.ID)
	if err != nil {
		return -1, err
	}
	defer agent.Close()
	p := &process{agent: agent, id: r.ID, exec: newExecID(), log: e.log(r.ID)}
	if err := e.startExec(ctx, p, r, foreground); err != nil {
		return -1, err
	}
	defer p.io.Close()
	if err = r.announce(os.Getpid()); err == nil {
		err = report()
	}
	if err != nil {
		p.forward(9) // nobody waits for it
		return -1, err
	}
	p.log.WithField("exec", p.exec).Debug("process runs in the guest")
	signals.attach(p)
	var warnings sync.WaitGroup
	warnings.Go(func() { p.passWarnings(ctx) }) // an exec is to be fast
	defer warnings.Wait()
	code, err = p.wait(context.Background())
	if errors.Is(err, errLost) {
		return exitLost, nil // killed with its container
	}
	if derr := p.io.drain(); derr != nil {
		p.log.WithError(derr).Debug("output is incomplete")
	}
	p.forget()
	return code, err
}

// requireExec says why nothing can be run in a container now, if so.
func (e *Engine) requireExec(ctx context.Context, r ExecRequest) error {
	for {
		s, err := e.Store.Load(r.ID)
		if err != nil {
			return err
		}
		if !r.IgnorePaused || s.Current() != state.StatusPaused {
			return allow(verbExec, s)
		}
		select {
		case <-time.After(pausePoll):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// pausePoll is how often a paused container is looked at.
const pausePoll = 100 * time.Millisecond

// startExec makes and starts the process with its streams in p.io.
func (e *Engine) startExec(ctx context.Context, p *process, r ExecRequest, foreground bool) error {
	ctx, cancel := context.WithTimeout(ctx, workGrace)
	defer cancel()
	spec, err := api.NewProcessSpec(&api.ExecProcess{Process: *bundle.GuestProcess(r.Process), Cgroup: r.Cgroup})
	if err != nil {
		return err
	}
	if p.io, err = openStreams(ctx, e.Store.Path(r.ID, state.SocketFile), ioRequest{r.Process.Terminal, r.Process.ConsoleSize, r.ConsoleSocket}); err != nil {
		return err
	}
	_, err = p.agent.Task.Exec(ctx, &api.ExecProcessRequest{
		Id: p.id, ExecId: p.exec, Terminal: r.Process.Terminal,
		Stdin: p.io.stdin, Stdout: p.io.stdout, Stderr: p.io.stderr, Spec: spec,
	})
	if err == nil {
		err = p.io.flow(foreground)
	}
	if err == nil {
		_, err = p.agent.Task.Start(ctx, &api.StartRequest{Id: p.id, ExecId: p.exec})
	}
	if err != nil {
		p.passWarnings(ctx)
		p.forget()
		p.io.Close()
		return agentError(err)
	}
	return nil
}

// forget lets the agent forget an exec. It may have done so itself.
func (p *process) forget() {
	ctx, cancel := context.WithTimeout(context.Background(), forwardGrace)
	defer cancel()
	_, _ = p.agent.Task.Delete(ctx, &api.DeleteRequest{Id: p.id, ExecId: p.exec})
}

func newExecID() string {
	var unique [8]byte
	// crypto/rand never fails.
	_, _ = rand.Read(unique[:])
	return "exec-" + hex.EncodeToString(unique[:])
}

// dialAgent connects to the agent of a container's machine.
func (e *Engine) dialAgent(ctx context.Context, id string) (*api.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, answerGrace)
	defer cancel()
	c, err := sandbox.Dial(ctx, e.Store.Path(id, state.SocketFile), api.PortAgent)
	if err != nil {
		return nil, agentError(err)
	}
	return api.NewClient(c, nil), nil
}

// isLost tells whether a call failed because the guest is gone.
func isLost(err error) bool { return errors.Is(err, ttrpc.ErrClosed) || errors.Is(err, errLost) }
