package container

import (
	"context"
	"fmt"

	"github.com/microvm/microvm/agent/api"
	"github.com/microvm/microvm/runtime/bundle"
)

// block is what guests take memory in, in bytes.
const block = 128 << 20

// mostPodCPUs bounds the CPUs that a pod's machine can grow to: each costs the
// guest some 200 KiB from the start.
const mostPodCPUs = 8

// Memory is a machine's, in bytes.
type Memory struct {
	// Start is what it was started with, Grown what was added since.
	Start, Grown uint64
}

// Now is all of it.
func (m Memory) Now() uint64 { return m.Start + m.Grown }

// Grow has a running machine make room for containers that ask for want
// together, and returns its memory then. A machine that is large enough, or as
// large as the host, stays as it is.
func (m Memory) Grow(ctx context.Context, agent *api.Client, want bundle.Size) (Memory, error) {
	host := thisHost()
	grown := m.Grown
	if want.Memory > mostOf(m.Now()) {
		need := min(guestMemory(want.Memory), max(host.memory, m.Now()>>20)) << 20
		grown = max(grown, (need-min(need, m.Start)+block-1)/block*block)
	}
	cpus := min(want.CPUs(), host.cpus, mostPodCPUs)
	if grown == m.Grown && cpus < 2 { // the first runs
		return m, nil
	}
	if _, err := agent.Machine.Grow(ctx, &api.GrowRequest{Memory: grown, Cpus: uint32(max(0, cpus))}); err != nil {
		return m, fmt.Errorf("make room in the machine for a memory limit of %d bytes and %d CPUs: %w", want.Memory, cpus, agentError(err))
	}
	return Memory{m.Start, grown}, nil
}
