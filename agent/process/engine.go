package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/microvm/microvm/agent/api"
)

// Engine runs containers. All its methods may be called concurrently; the
// errors that they return have a class of this package or are libcontainer's.
type Engine struct {
	// Network is the containers' network; nil for that of the agent.
	Network Network

	state   string // libcontainer's directory
	roots   string // where the containers' roots are mounted
	layers  string // and what these are made of
	memory  string // where places in file systems in memory are mounted
	streams *Streams
	reaper  *Reaper
	disks   disks
	wg      sync.WaitGroup // one for each process that was launched

	mu         sync.Mutex
	containers map[string]*container  // nil while being created
	plumbing   map[*plumbing]struct{} // what may have bytes in flight
}

// NewEngine makes an engine that keeps its state below the directory dir, and
// mounts the containers' roots there, and finds standard streams in streams, which stays the
// caller's. Close ends it.
func NewEngine(dir string, streams *Streams) (*Engine, error) {
	state, roots, layers, memory := filepath.Join(dir, "state"), filepath.Join(dir, "roots"), filepath.Join(dir, "layers"), filepath.Join(dir, "memory")
	// The root of a user namespace is nobody here, but has to pass.
	for _, d := range []string{state, roots, layers, memory} {
		if err := os.MkdirAll(d, 0o711); err != nil {
			return nil, fmt.Errorf("make state directory: %w", err)
		}
	}
	return &Engine{
		state:      state,
		roots:      roots,
		layers:     layers,
		memory:     memory,
		streams:    streams,
		reaper:     NewReaper(),
		containers: make(map[string]*container),
		plumbing:   make(map[*plumbing]struct{}),
	}, nil
}

// Close kills all containers, takes them apart and ends all streams at once.
// No other call may be under way.
func (e *Engine) Close() error {
	var err error
	for _, c := range e.all() {
		c.kill(syscall.SIGKILL, true)
		<-c.init.ended
		err = errors.Join(err, e.dismantle(c))
	}
	for _, p := range e.flowing() {
		p.close()
	}
	e.wg.Wait()
	e.reaper.Close()
	return err
}

func (e *Engine) all() []*container {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []*container
	for _, c := range e.containers {
		if c != nil {
			all = append(all, c)
		}
	}
	return all
}

func (e *Engine) flowing() []*plumbing {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []*plumbing
	for p := range e.plumbing {
		all = append(all, p)
	}
	return all
}

// reserve takes id for a container about to be created.
func (e *Engine) reserve(id string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, ok := e.containers[id]; ok {
		return fail(ErrExists, "container with given ID already exists: %s", id)
	}
	e.containers[id] = nil
	return nil
}

// put makes c what id stands for, or with nil frees id.
func (e *Engine) put(id string, c *container) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c == nil {
		delete(e.containers, id)
		return
	}
	e.containers[id] = c
}

func (e *Engine) container(id string) (*container, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c := e.containers[id]; c != nil {
		return c, nil
	}
	return nil, fail(ErrNotFound, "container does not exist: %s", id)
}

// process finds an exec, or with an empty execID a container's first process.
func (e *Engine) process(id, execID string) (*container, *process, error) {
	c, err := e.container(id)
	if err != nil {
		return nil, nil, err
	}
	p, err := c.process(execID)
	return c, p, err
}

// Create makes a container whose first process is set up and waits for Start.
// It returns that process's pid. bundle is only remembered. The root file system
// is made of layers, if there are any.
func (e *Engine) Create(ctx context.Context, id, bundle string, spec *specs.Spec, layers []*api.Mount, stdio Stdio) (pid int, err error) {
	if err := e.reserve(id); err != nil {
		return 0, err
	}
	c, err := e.create(ctx, id, bundle, spec, layers, stdio)
	e.put(id, c)
	if err != nil {
		return 0, err
	}
	return c.init.snapshot().pid, nil
}

// Exec adds a process to a running container, to be run by Start.
func (e *Engine) Exec(ctx context.Context, id, execID string, spec *api.ExecProcess, stdio Stdio) error {
	c, err := e.container(id)
	if err != nil {
		return err
	}
	if execID == "" {
		return fail(ErrInvalid, "exec id must not be empty")
	}
	if err := checkProcess(&spec.Process); err != nil {
		return err
	}
	if err := c.requireRunning(); err != nil {
		return err
	}
	if err := c.requireNew(execID); err != nil {
		return err
	}
	pipes, err := e.connect(ctx, stdio)
	if err != nil {
		return err
	}
	p, err := newProcess(execID, &spec.Process, stdio, pipes)
	if err == nil {
		p.setCgroup(spec.Cgroup)
		err = c.add(p)
	}
	if err != nil {
		e.disconnect(pipes)
	}
	return err
}

// connect claims a process's streams and remembers them for Close.
func (e *Engine) connect(ctx context.Context, stdio Stdio) (*plumbing, error) {
	p, err := e.streams.connect(ctx, stdio)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.plumbing[p] = struct{}{}
	return p, nil
}

func (e *Engine) disconnect(p *plumbing) {
	p.close()
	e.forget(p)
}

func (e *Engine) forget(p *plumbing) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.plumbing, p)
}

// Start lets a created process run and returns its pid.
func (e *Engine) Start(id, execID string) (pid int, err error) {
	c, p, err := e.process(id, execID)
	if err != nil {
		return 0, err
	}
	if err := p.begin("start", starting, created); err != nil {
		return 0, err
	}
	if execID == "" {
		err = c.start()
	} else {
		err = e.startExec(c, p)
	}
	if err != nil {
		return 0, err
	}
	p.settle(running)
	return p.snapshot().pid, nil
}

// Wait blocks until a process has ended and tells how. It works until Delete.
func (e *Engine) Wait(ctx context.Context, id, execID string) (Exit, error) {
	_, p, err := e.process(id, execID)
	if err != nil {
		return Exit{}, err
	}
	return p.wait(ctx)
}

// Kill sends a signal to a process, or with all to every process of the
// container.
func (e *Engine) Kill(id, execID string, sig syscall.Signal, all bool) error {
	c, p, err := e.process(id, execID)
	if err != nil {
		return err
	}
	if execID != "" {
		return p.signal(sig)
	}
	return c.kill(sig, all)
}

// Delete forgets a process that has stopped or was never started. With an
// empty execID this is the container and all that belongs to it.
func (e *Engine) Delete(id, execID string) (pid int, exit Exit, err error) {
	c, p, err := e.process(id, execID)
	if err != nil {
		return 0, Exit{}, err
	}
	if execID == "" {
		if err := e.destroy(c); err != nil {
			return 0, Exit{}, err
		}
		e.put(id, nil)
	} else {
		if err := p.forget(); err != nil {
			return 0, Exit{}, err
		}
		c.remove(p)
		e.discard(p)
	}
	s := p.snapshot()
	return s.pid, s.exit, nil
}

// discard ends the streams of a process that was never started.
func (e *Engine) discard(p *process) {
	if p.snapshot().pid == 0 {
		e.disconnect(p.pipes)
	}
}

// Resize sets the size of a process's terminal in characters.
func (e *Engine) Resize(id, execID string, width, height uint32) error {
	_, p, err := e.process(id, execID)
	if err != nil {
		return err
	}
	return p.pipes.resize(width, height)
}

// CloseInput closes a process's standard input.
func (e *Engine) CloseInput(id, execID string) error {
	_, p, err := e.process(id, execID)
	if err != nil {
		return err
	}
	p.pipes.closeInput()
	return nil
}
