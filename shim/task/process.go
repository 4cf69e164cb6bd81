package task

import (
	"context"
	"sync"
	"time"

	"github.com/containerd/containerd/api/events"
	"github.com/containerd/containerd/v2/core/runtime"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/microvm/microvm/agent/api"
)

// stdioNames name a process's standard streams.
type stdioNames struct {
	Stdin, Stdout, Stderr string
	Terminal              bool
}

const (
	sigkill = 9
	// exitLost is the code of a process that went down with its machine: as if
	// killed by SIGKILL.
	exitLost = 128 + sigkill
)

// process is a container's first process or an exec.
type process struct {
	id, exec string
	stdio    stdioNames
	io       *streams // nil for a pod's sandbox

	// life orders start and exit.
	life    sync.Mutex
	started bool
	status  api.Status
	exit    uint32
	at      time.Time
	done    chan struct{} // closed by end
}

func newProcess(id, exec string, names stdioNames, io *streams) *process {
	return &process{id: id, exec: exec, stdio: names, io: io, status: api.Status_CREATED, done: make(chan struct{})}
}

// eventID is what exit events call the process.
func (p *process) eventID() string {
	if p.exec != "" {
		return p.exec
	}
	return p.id
}

// turn changes the status from one to another, if it still is the one.
func (p *process) turn(from, to api.Status) {
	p.life.Lock()
	defer p.life.Unlock()
	if p.status == from {
		p.status = to
	}
}

func (p *process) is(status api.Status) bool {
	p.life.Lock()
	defer p.life.Unlock()
	return p.status == status
}

// over tells whether its end is known.
func (p *process) over() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// hasRun tells whether there was a process ever: an exec is none before its start.
func (p *process) hasRun() bool {
	p.life.Lock()
	defer p.life.Unlock()
	return p.started || p.exec == ""
}

// watch waits for the process's end in the guest and makes it known.
func (s *Service) watch(t *task, p *process) {
	ctx := context.Background()
	r, err := t.guest.Wait(ctx, &api.WaitRequest{Id: p.id, ExecId: p.exec})
	code, at := uint32(exitLost), time.Now()
	if err != nil {
		t.machine.report(t.machine.explain(err), p)
		s.tellStarvation(t, p)
	} else {
		code = r.GetExitStatus() & 0xff // a guest can say anything
		s.noteOOM(t, p, code)
	}
	if p.exec == "" {
		s.sweep(ctx, t)
	}
	s.end(t, p, code, at)
}

// tellStarvation says of a container whose machine the host's kernel killed for
// want of memory that it was out of memory.
func (s *Service) tellStarvation(t *task, p *process) {
	if p.exec == "" && t.machine.starvation() != "" {
		s.events.Send(runtime.TaskOOMEventTopic, &events.TaskOOM{ContainerID: t.id})
	}
}

// end records the process's end and tells containerd, after its start.
func (s *Service) end(t *task, p *process, code uint32, at time.Time) {
	p.life.Lock()
	defer p.life.Unlock()
	if p.status == api.Status_STOPPED {
		return
	}
	p.status, p.exit, p.at = api.Status_STOPPED, code, at
	if (p.started || p.exec == "") && !t.silent {
		s.events.Send(runtime.TaskExitEventTopic, &events.TaskExit{
			ContainerID: p.id, ID: p.eventID(), Pid: t.pid(), ExitStatus: code, ExitedAt: timestamppb.New(at),
		})
	}
	close(p.done)
}

func (p *process) exitedAt() *timestamppb.Timestamp {
	if p.at.IsZero() {
		return nil
	}
	return timestamppb.New(p.at)
}
