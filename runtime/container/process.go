package container

import (
	"context"
	"errors"
	"syscall"

	"github.com/containerd/ttrpc"
	"github.com/sirupsen/logrus"

	"github.com/microvm/microvm/agent/api"
)

// process is a process in a guest that this one stands for: a container's
// first one, or an exec.
type process struct {
	agent *api.Client
	id    string
	exec  string // "" for the container's first process
	io    *streams
	log   *logrus.Entry
}

// exitLost is the code for a process that went down with its machine: as if
// killed by SIGKILL.
const exitLost = 128 + 9

var errLost = errors.New("the connection to the guest is lost")

// wait blocks until the process has ended. The error is errLost when the guest
// went first.
func (p *process) wait(ctx context.Context) (code int, err error) {
	resp, err := p.agent.Task.Wait(ctx, &api.WaitRequest{Id: p.id, ExecId: p.exec})
	if errors.Is(err, ttrpc.ErrClosed) {
		return exitLost, errLost
	}
	if err != nil {
		return exitLost, agentError(err)
	}
	// A guest can say anything.
	return int(resp.GetExitStatus() & 0xff), nil
}

// forward passes a signal on. A process that has ended does not mind.
func (p *process) forward(sig syscall.Signal) {
	ctx, cancel := context.WithTimeout(context.Background(), forwardGrace)
	defer cancel()
	_, err := p.agent.Task.Kill(ctx, &api.KillRequest{Id: p.id, ExecId: p.exec, Signal: uint32(sig)})
	if err != nil {
		p.log.WithError(agentError(err)).WithField("signal", int(sig)).Debug("signal was not delivered")
	}
}

// passWarnings logs what the agent has warned of meanwhile.
func (p *process) passWarnings(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, forwardGrace)
	defer cancel()
	for _, line := range p.agent.Warnings(ctx) {
		p.log.Warn(line)
	}
}

// resize gives the guest's terminal the size of the one here.
func (p *process) resize() {
	if p.io.terminal == nil {
		return
	}
	w, h := p.io.terminal.Size()
	if w == 0 || h == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), forwardGrace)
	defer cancel()
	_, err := p.agent.Task.ResizePty(ctx, &api.ResizePtyRequest{Id: p.id, ExecId: p.exec, Width: uint32(w), Height: uint32(h)})
	if err != nil {
		p.log.WithError(agentError(err)).Debug("terminal was not resized")
	}
}
