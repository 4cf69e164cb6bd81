package process

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	_ "github.com/opencontainers/cgroups/devices" // lets libcontainer set device rules
	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/agent/api"
)

// container is one container with its processes.
type container struct {
	id     string
	bundle string
	root   rootfs
	disks  *disks
	// serials are those of the disks that it uses.
	serials []string
	lib     *libcontainer.Container
	init    *process

	mu     sync.Mutex
	execs  map[string]*process
	paused bool
}

// create makes a container up to where its process waits for start.
func (e *Engine) create(ctx context.Context, id, bundle string, spec *specs.Spec, layers []*api.Mount, stdio Stdio) (*container, error) {
	if err := checkSpec(id, spec); err != nil {
		return nil, err
	}
	pipes, err := e.connect(ctx, stdio)
	if err != nil {
		return nil, err
	}
	c := &container{id: id, bundle: bundle, disks: &e.disks, execs: make(map[string]*process)}
	if err := e.build(c, spec, layers, stdio, pipes); err != nil {
		e.disconnect(pipes)
		return nil, errors.Join(err, e.dismantle(c))
	}
	return c, nil
}

// build fills c and launches its process. After an error, c has to be
// dismantled.
func (e *Engine) build(c *container, spec *specs.Spec, layers []*api.Mount, stdio Stdio, pipes *plumbing) (err error) {
	if c.init, err = newProcess("", spec.Process, stdio, pipes); err != nil {
		return err
	}
	if err := e.mountRoot(c, spec, layers); err != nil {
		return err
	}
	if err := errors.Join(c.useDisks(spec), sizeSharedMemory(spec), e.useMemory(c, spec)); err != nil {
		return err
	}
	findExports(spec)
	keepNames(spec)
	adopt := e.joinNetwork(spec)
	config, err := newConfig(c.id, c.bundle, spec)
	if err != nil {
		return err
	}
	if c.lib, err = libcontainer.Create(e.state, c.id, config); err != nil {
		return classify(err)
	}
	if err := e.launch(c, c.init); err != nil || !adopt {
		return err
	}
	return e.adoptNetwork(c)
}

// classify gives libcontainer's errors their class.
func classify(err error) error {
	switch {
	case errors.Is(err, libcontainer.ErrInvalidID):
		return fail(ErrInvalid, "%w", err)
	case errors.Is(err, libcontainer.ErrExist):
		return fail(ErrExists, "%w", err)
	case errors.Is(err, libcontainer.ErrNotRunning), errors.Is(err, libcontainer.ErrNotPaused),
		errors.Is(err, libcontainer.ErrPaused), errors.Is(err, libcontainer.ErrRunning):
		return fail(ErrState, "%w", err)
	}
	return err
}

// rootIDs is who the container's root is outside of its user namespace.
func (c *container) rootIDs() (uid, gid int, err error) {
	config := c.lib.Config()
	if uid, err = config.HostRootUID(); err != nil {
		return 0, 0, err
	}
	gid, err = config.HostRootGID()
	return uid, gid, err
}

func (c *container) process(execID string) (*process, error) {
	if execID == "" {
		return c.init, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.execs[execID]; p != nil {
		return p, nil
	}
	return nil, fail(ErrNotFound, "exec %s does not exist in container %s", execID, c.id)
}

func (c *container) requireNew(execID string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.vacant(execID)
}

// vacant says whether execID is free. The caller holds mu.
func (c *container) vacant(execID string) error {
	if _, ok := c.execs[execID]; ok {
		return fail(ErrExists, "exec %s already exists in container %s", execID, c.id)
	}
	return nil
}

func (c *container) add(p *process) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.vacant(p.execID); err != nil {
		return err
	}
	c.execs[p.execID] = p
	return nil
}

func (c *container) remove(p *process) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.execs, p.execID)
}

// requireRunning says why nothing can be run in c now, if so.
func (c *container) requireRunning() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.paused {
		return fail(ErrState, "cannot exec in a paused container")
	}
	if c.init.snapshot().phase == stopped {
		return fail(ErrState, "cannot exec in a stopped container")
	}
	return nil
}

// start lets the container's process go; it is in the phase starting.
func (c *container) start() error {
	if err := c.lib.Exec(); err != nil {
		c.init.settle(created)
		return classify(err)
	}
	return nil
}

// startExec runs p in c. If it can't, p has stopped.
func (e *Engine) startExec(c *container, p *process) error {
	err := c.requireRunning()
	if err == nil {
		err = e.launch(c, p)
	}
	if err != nil {
		p.end(Exit{Code: 255, At: time.Now()})
		e.disconnect(p.pipes)
	}
	return err
}

// kill sends sig to the container's process or to all processes in it.
func (c *container) kill(sig syscall.Signal, all bool) error {
	err := c.init.signal(sig)
	if errors.Is(err, ErrState) {
		err = fail(ErrState, "%w", libcontainer.ErrNotRunning)
	}
	if !all {
		return err
	}
	pids, listErr := c.lib.Processes()
	if listErr != nil || len(pids) == 0 {
		return err
	}
	init := c.init.snapshot().pid
	for _, pid := range pids {
		if pid != init {
			unix.Kill(pid, sig) // gone meanwhile is as good
		}
	}
	return nil
}

// destroy takes c apart. Its process has stopped, or is stopped if it was
// never started.
func (e *Engine) destroy(c *container) error {
	if err := c.init.begin("delete", starting, created); err == nil {
		c.init.signal(unix.SIGKILL)
		<-c.init.ended
	}
	if s := c.init.snapshot(); s.phase != stopped {
		return fail(ErrState, "cannot delete container %s that is %s: %w", c.id, s.phase, libcontainer.ErrRunning)
	}
	if err := e.dismantle(c); err != nil {
		return err
	}
	for _, p := range c.allExecs() {
		if p.forget() == nil {
			e.discard(p)
		}
	}
	return c.init.forget()
}

func (c *container) allExecs() []*process {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []*process
	for _, p := range c.execs {
		all = append(all, p)
	}
	return all
}

// dismantle removes what there is of the container: its cgroup and state, with
// its last hooks run, and its root.
func (e *Engine) dismantle(c *container) error {
	defer e.reaper.hold()()
	if c.lib != nil {
		if err := c.lib.Destroy(); err != nil {
			return fmt.Errorf("delete container %s: %w", c.id, err)
		}
	}
	return errors.Join(c.root.unmount(), c.dropDisks())
}

// Pids lists the processes of a container by their pids in the guest.
func (e *Engine) Pids(id string) ([]int, error) {
	c, err := e.container(id)
	if err != nil {
		return nil, err
	}
	return c.lib.Processes()
}

// Pause freezes a container.
func (e *Engine) Pause(id string) error {
	return e.freeze(id, true, (*libcontainer.Container).Pause)
}

// Resume thaws it.
func (e *Engine) Resume(id string) error {
	return e.freeze(id, false, (*libcontainer.Container).Resume)
}

func (e *Engine) freeze(id string, paused bool, do func(*libcontainer.Container) error) error {
	c, err := e.container(id)
	if err != nil {
		return err
	}
	// The object that started the process takes it for running already, and
	// refuses to freeze one that waits for its start; a loaded one looks.
	lib, err := libcontainer.Load(e.state, c.id)
	if err != nil {
		return classify(err)
	}
	if err := do(lib); err != nil {
		return classify(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.paused = paused
	return nil
}
