package task

import (
	"context"

	"github.com/microvm/microvm/runtime/bundle"
)

// makeRoom has the machine grow for what its containers ask for together, of
// which t asks for size. One whose size somebody has chosen keeps it.
func (s *Service) makeRoom(ctx context.Context, t *task, size bundle.Size) error {
	all := size
	s.mu.Lock()
	for _, other := range s.containers {
		if other != t && other != s.sandbox {
			all.Memory += other.size.Memory
			all.MilliCPUs += other.size.MilliCPUs
		}
	}
	s.mu.Unlock()
	if t.machine.chosen.MaxMemory == 0 {
		all.Memory = 0
	}
	if t.machine.chosen.MaxCPUs == 0 {
		all.MilliCPUs = 0
	}
	ctx, cancel := context.WithTimeout(ctx, workGrace)
	defer cancel()
	grown, err := t.machine.memory.Grow(ctx, t.machine.vm.Agent(), all)
	if err != nil {
		return err
	}
	t.size = size
	if grown != t.machine.memory {
		t.machine.memory = grown
		if s.sandbox != nil {
			t.machine.limit(ctx, s.sandbox.blueprint.HostLimits(grown))
		}
	}
	return nil
}
