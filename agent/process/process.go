package process

import (
	"context"
	"errors"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// phase is where a process is in its life:
//
//	created  -> starting   Start
//	starting -> running    it runs
//	starting -> created    the container's process could not be started
//	starting -> stopped    an exec could not be started
//	created, starting, running -> stopped  it has ended
//	created, stopped -> deleted            Delete
type phase int

const (
	created phase = iota
	starting
	running
	stopped
	deleted
)

func (p phase) String() string {
	return [...]string{"created", "starting", "running", "stopped", "deleted"}[p]
}

// process is a container's first process or an exec in it.
type process struct {
	execID string // empty for a container's first process
	spec   *specs.Process
	stdio  Stdio
	pipes  *plumbing
	lib    *libcontainer.Process // set before pid is
	late   []configs.Rlimit      // see deferLimits

	ended chan struct{} // closed with phase stopped or deleted

	mu     sync.Mutex
	phase  phase
	pid    int // 0 until there is a process
	status Exit
}

// Exit is how a process ended.
type Exit struct {
	Code uint32 // its exit code, or 128 and the signal
	At   time.Time
}

func newProcess(execID string, spec *specs.Process, stdio Stdio, pipes *plumbing) (*process, error) {
	lib, err := newLibProcess(spec, execID == "")
	if err != nil {
		return nil, err
	}
	p := &process{execID: execID, spec: spec, stdio: stdio, pipes: pipes, lib: lib, ended: make(chan struct{})}
	p.deferLimits()
	return p, nil
}

// setCgroup chooses a cgroup below the container's; "" leaves it at that.
func (p *process) setCgroup(path string) {
	if path != "" {
		p.lib.SubCgroupPaths = map[string]string{"": path}
	}
}

// begin goes from one of the phases of from to the phase to.
func (p *process) begin(verb string, to phase, from ...phase) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range from {
		if p.phase == f {
			p.phase = to
			return nil
		}
	}
	return fail(ErrState, "cannot %s a process that is %s", verb, p.phase)
}

// settle ends the phase starting, unless the process has ended meanwhile.
func (p *process) settle(to phase) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.phase == starting {
		p.phase = to
	}
}

// launch makes libcontainer start p in c with its standard streams connected.
// Afterwards p is owned by a goroutine that waits for it.
func (e *Engine) launch(c *container, p *process) error {
	release := e.reaper.hold()
	defer release()
	if err := p.connect(c); err != nil {
		return err
	}
	pid, err := p.lib.Pid()
	if err == nil {
		err = p.impose(pid)
	}
	if err != nil {
		p.abandon()
		return err
	}
	e.reaper.own(pid)
	p.mu.Lock()
	p.pid = pid
	p.mu.Unlock()
	p.pipes.start()
	e.wg.Go(func() { e.await(p, pid) })
	return nil
}

// connect starts p in c with a terminal or pipes.
func (p *process) connect(c *container) error {
	if p.stdio.Terminal {
		return p.connectTerminal(c)
	}
	uid, gid, err := c.rootIDs()
	if err != nil {
		return err
	}
	files, err := p.pipes.pipes(uid, gid)
	if err != nil {
		return err
	}
	defer files.close()
	p.lib.Stdin, p.lib.Stdout, p.lib.Stderr = files[0], files[1], files[2]
	return c.lib.Start(p.lib)
}

func (p *process) connectTerminal(c *container) error {
	socket, err := newConsoleSocket()
	if err != nil {
		return err
	}
	defer socket.close()
	p.lib.ConsoleSocket = socket.child
	if size := p.pipes.asked(); size != nil { // before the program looks
		p.lib.ConsoleWidth, p.lib.ConsoleHeight = size.Col, size.Row
	}
	if err := c.lib.Start(p.lib); err != nil {
		return err
	}
	master, err := socket.receive()
	if err == nil {
		err = p.pipes.console(master)
	}
	if err != nil {
		p.abandon()
	}
	return err
}

// abandon ends a process that libcontainer has started and nobody waits for.
func (p *process) abandon() {
	p.lib.Signal(os.Kill)
	p.lib.Wait()
}

// await waits for p, records how it ended, and stays until its last byte is
// delivered.
func (e *Engine) await(p *process, pid int) {
	state, _ := p.lib.Wait() // its error only repeats that the exit code is not 0
	exit := Exit{Code: 255, At: time.Now()}
	if state != nil {
		exit.Code = exitCode(state)
	}
	e.reaper.disown(pid)
	p.pipes.exited()
	p.end(exit)
	p.pipes.wg.Wait()
	e.forget(p.pipes)
}

// exitCode is what a shell would give for state.
func exitCode(state *os.ProcessState) uint32 {
	ws, ok := state.Sys().(syscall.WaitStatus)
	if ok && ws.Signaled() {
		return 128 + uint32(ws.Signal())
	}
	return uint32(state.ExitCode())
}

// end records how p ended, or that it never came to life.
func (p *process) end(exit Exit) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.phase == stopped || p.phase == deleted {
		return
	}
	p.phase, p.status = stopped, exit
	close(p.ended)
}

// forget takes p from created or stopped to deleted.
func (p *process) forget() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch p.phase {
	case created:
		close(p.ended)
	case stopped:
	default:
		return fail(ErrState, "cannot delete a process that is %s", p.phase)
	}
	p.phase = deleted
	return nil
}

// wait blocks until p has ended.
func (p *process) wait(ctx context.Context) (Exit, error) {
	select {
	case <-p.ended:
	case <-ctx.Done():
		return Exit{}, ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.status.At.IsZero() {
		return Exit{}, fail(ErrNotFound, "process was deleted before it was started")
	}
	return p.status, nil
}

// signal sends sig to p.
func (p *process) signal(sig syscall.Signal) error {
	p.mu.Lock()
	pid, phase := p.pid, p.phase
	p.mu.Unlock()
	if pid == 0 || phase == stopped || phase == deleted {
		return fail(ErrState, "process is %s, not running", phase)
	}
	err := p.lib.Signal(sig)
	if errors.Is(err, os.ErrProcessDone) {
		return fail(ErrState, "process not running")
	}
	return err
}

// snapshot is a process at one moment.
type snapshot struct {
	phase phase
	pid   int
	exit  Exit
}

func (p *process) snapshot() snapshot {
	p.mu.Lock()
	defer p.mu.Unlock()
	return snapshot{p.phase, p.pid, p.status}
}
