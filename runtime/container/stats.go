package container

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/cgroups/v3/cgroup2/stats"

	"github.com/microvm/microvm/agent/api"
	"github.com/microvm/microvm/runtime/state"
)

// Observer is told about a running container.
type Observer struct {
	// Stats is called with each reading.
	Stats func(*stats.Metrics) error
	// OOM is called when processes of the container were killed because it
	// has reached its memory limit.
	OOM func() error
}

// Stats reads what a container has used.
func (e *Engine) Stats(ctx context.Context, id string) (*stats.Metrics, error) {
	s, err := e.Store.Load(id)
	if err != nil {
		return nil, err
	}
	if err := allow(verbEvents, s); err != nil {
		return nil, err
	}
	agent, err := e.dialAgent(ctx, id)
	if err != nil {
		return nil, err
	}
	defer agent.Close()
	return readStats(ctx, agent, id)
}

// Watch reads a container's statistics every interval until it has stopped.
func (e *Engine) Watch(ctx context.Context, id string, interval time.Duration, o Observer) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	var kills uint64
	for first := true; ; first = false {
		m, err := e.Stats(ctx, id)
		if err != nil {
			if !first && (errors.Is(err, ErrState) || errors.Is(err, state.ErrNotExist) || e.over(id)) {
				return nil
			}
			return err
		}
		if n := m.GetMemoryEvents().GetOomKill(); n > kills {
			kills = n
			if err := o.OOM(); err != nil {
				return err
			}
		}
		if !first {
			if err := o.Stats(m); err != nil {
				return err
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// over tells whether a container that does not answer has stopped. Its machine
// goes down before that is recorded.
func (e *Engine) over(id string) bool {
	for end := time.Now().Add(politeEnd); time.Now().Before(end); time.Sleep(pausePoll) {
		s, err := e.Store.Load(id)
		if err != nil || allow(verbEvents, s) != nil {
			return true
		}
	}
	return false
}

func readStats(ctx context.Context, agent *api.Client, id string) (*stats.Metrics, error) {
	ctx, cancel := context.WithTimeout(ctx, answerGrace)
	defer cancel()
	resp, err := agent.Task.Stats(ctx, &api.StatsRequest{Id: id})
	if err != nil {
		return nil, agentError(err)
	}
	m := new(stats.Metrics)
	if got, want := resp.GetStats().GetTypeUrl(), string(m.ProtoReflect().Descriptor().FullName()); got != want {
		return nil, fmt.Errorf("read statistics of container %s: the guest sent a %q, not a %s", id, got, want)
	}
	return m, api.Unpack(resp.GetStats(), m)
}
