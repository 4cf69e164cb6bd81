package sandbox

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Stages of a container's start that the host takes itself; those of the VM
// process are in package vmm/control.
const (
	StageKernel  = "kernel"  // the guest's kernel has started the agent
	StageAgent   = "agent"   // the agent has answered
	StageCreated = "created" // the container exists, its process waits
	StageStarted = "started" // the process runs
	StageExit    = "exit"    // the process has ended
	StageDown    = "down"    // the machine is off
)

// Timeline is when a start reached its stages. It may be used concurrently.
type Timeline struct {
	zero int64 // of CLOCK_MONOTONIC, in nanoseconds

	mu     sync.Mutex
	stages []Stage
}

// Stage is one point of a timeline.
type Stage struct {
	Name string `json:"name"`
	// Milliseconds since the timeline's zero.
	Milliseconds float64 `json:"ms"`
}

// Now is the host's CLOCK_MONOTONIC in nanoseconds, the time of timelines.
func Now() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0 // cannot fail with a valid clock
	}
	return ts.Nano()
}

// NewTimeline makes a timeline that counts from zero, a time of Now.
func NewTimeline(zero int64) *Timeline { return &Timeline{zero: zero} }

// Mark records that stage is reached now.
func (t *Timeline) Mark(stage string) { t.MarkAt(stage, Now()) }

// MarkAt records that stage was reached at a time of Now.
func (t *Timeline) MarkAt(stage string, at int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stages = append(t.stages, Stage{stage, float64((at-t.zero)/int64(time.Microsecond)) / 1000})
}

// Stages returns what was recorded, by time.
func (t *Timeline) Stages() []Stage {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := slices.Clone(t.stages)
	slices.SortStableFunc(s, func(a, b Stage) int { return cmp.Compare(a.Milliseconds, b.Milliseconds) })
	return s
}

// Last is the stage that was reached last, "" for none.
func (t *Timeline) Last() string {
	s := t.Stages()
	if len(s) == 0 {
		return ""
	}
	return s[len(s)-1].Name
}
