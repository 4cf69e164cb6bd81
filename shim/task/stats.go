package task

import (
	"context"

	"github.com/containerd/cgroups/v3/cgroup2/stats"
	"github.com/containerd/containerd/api/events"
	"github.com/containerd/containerd/v2/core/runtime"
	"github.com/containerd/typeurl/v2"

	"github.com/microvm/microvm/agent/api"
)

// Stats implements [api.TaskService]. What the guest sent is packed anew, for it
// could be of any type.
func (s *Service) Stats(ctx context.Context, r *api.StatsRequest) (*api.StatsResponse, error) {
	t, err := s.task(r.GetId())
	if err != nil {
		return nil, err
	}
	m, err := t.metrics(ctx)
	if err != nil {
		return nil, err
	}
	packed, err := typeurl.MarshalAnyToProto(m)
	if err != nil {
		return nil, asStatus(err)
	}
	return &api.StatsResponse{Stats: packed}, nil
}

// metrics are what t has used and how often it met its limits.
func (t *task) metrics(ctx context.Context) (*stats.Metrics, error) {
	r, err := ask(ctx, t, answerGrace, &api.StatsRequest{Id: t.id}, t.guest.Stats)
	if err != nil {
		return nil, err
	}
	m := new(stats.Metrics)
	return m, asStatus(api.Unpack(r.GetStats(), m))
}

// noteOOM tells containerd before a process's exit when the container has met
// its memory limit since it was last asked.
func (s *Service) noteOOM(t *task, p *process, code uint32) {
	if code != exitLost && p.exec != "" {
		return // a healthy exec says nothing of the container
	}
	m, err := t.metrics(context.Background())
	if err != nil {
		return // a guest that does not say has killed none
	}
	kills := m.GetMemoryEvents().GetOomKill()
	t.mu.Lock()
	more := kills > t.oom
	t.oom = max(t.oom, kills)
	t.mu.Unlock()
	if more {
		s.events.Send(runtime.TaskOOMEventTopic, &events.TaskOOM{ContainerID: t.id})
	}
}
