package task

import (
	"context"
	"time"

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
	s.noteKills(t, m.GetMemoryEvents().GetOomKill())
}

// noteKills tells of kills for want of memory that are not known yet.
func (s *Service) noteKills(t *task, kills uint64) (known uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if kills > t.oom {
		t.oom = kills
		// Whoever notes the same kills next has to come after this.
		s.events.Send(runtime.TaskOOMEventTopic, &events.TaskOOM{ContainerID: t.id})
	}
	return t.oom
}

// killPause is the least time between two events of a container that is out of
// memory again and again, or says so.
const killPause = time.Second

// watchMemory tells containerd when a process of t is killed for want of memory
// whose end nobody waits for. It ends with t.
func (s *Service) watchMemory(t *task) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-t.init.done:
			cancel()
		case <-ctx.Done():
		}
	}()
	known := uint64(0)
	for ctx.Err() == nil {
		r, err := t.machine.vm.Agent().Machine.OutOfMemory(ctx, &api.OutOfMemoryRequest{Id: t.id, Known: known})
		if err != nil {
			return // the container is gone, or its machine
		}
		known = s.noteKills(t, r.GetKills())
		select {
		case <-time.After(killPause):
		case <-ctx.Done():
		}
	}
}
