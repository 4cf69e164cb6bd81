package process

import "github.com/microvm/microvm/agent/api"

// State is a container or exec at one moment.
type State struct {
	Bundle string
	Pid    int
	Status api.Status
	Stdio  Stdio
	Exit   Exit // zero unless it has stopped
}

// State tells about a process, or with an empty execID about the container.
func (e *Engine) State(id, execID string) (State, error) {
	c, p, err := e.process(id, execID)
	if err != nil {
		return State{}, err
	}
	s := p.snapshot()
	return State{
		Bundle: c.bundle,
		Pid:    s.pid,
		Status: c.status(s.phase),
		Stdio:  p.stdio,
		Exit:   s.exit,
	}, nil
}

// status is how the protocol calls a phase of a process in c.
func (c *container) status(p phase) api.Status {
	switch p {
	case created, starting:
		return api.Status_CREATED
	case stopped, deleted:
		return api.Status_STOPPED
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.paused {
		return api.Status_PAUSED
	}
	return api.Status_RUNNING
}
