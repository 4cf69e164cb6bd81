package task

import (
	"context"

	"github.com/containerd/cgroups/v3/cgroup2/stats"
	"github.com/containerd/containerd/api/events"
	"github.com/containerd/containerd/v2/core/runtime"

	"github.com/microvm/microvm/agent/api"
)

// noteOOM tells containerd before a process's exit when the container has met
// its memory limit since it was last asked.
func (s *Service) noteOOM(t *task, p *process, code uint32) {
	if code != exitLost && p.exec != "" {
		return // a healthy exec says nothing of the container
	}
	kills := t.oomKills()
	t.mu.Lock()
	more := kills > t.oom
	t.oom = max(t.oom, kills)
	t.mu.Unlock()
	if more {
		s.events.Send(runtime.TaskOOMEventTopic, &events.TaskOOM{ContainerID: t.id})
	}
}

// oomKills is how many processes of the container were killed for want of
// memory. A guest that does not say has killed none.
func (t *task) oomKills() uint64 {
	r, err := ask(context.Background(), t, answerGrace, &api.StatsRequest{Id: t.id}, t.guest.Stats)
	if err != nil {
		return 0
	}
	m := new(stats.Metrics)
	if err := api.Unpack(r.GetStats(), m); err != nil {
		return 0
	}
	return m.GetMemoryEvents().GetOomKill()
}
