package container

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/microvm/microvm/runtime/sandbox"
)

// TimelineReport is what a timeline file holds.
type TimelineReport struct {
	Machine string `json:"machine"`
	Reason  string `json:"reason"`
	CPUs    int    `json:"cpus"`
	// Memory in MiB.
	Memory uint64          `json:"memory"`
	Stages []sandbox.Stage `json:"stages"`
}

// report logs the timeline and writes it to the file that was asked for.
func (s *supervisor) report() {
	log := s.engine.log(s.request.ID)
	for _, stage := range s.timeline.Stages() {
		log.Debugf("%9.1f ms  %s", stage.Milliseconds, stage.Name)
	}
	if s.request.TimelineFile == "" {
		return
	}
	m := s.design.machine
	r := TimelineReport{m.Machine, s.design.decision.Reason, m.CPUs, m.Memory >> 20, s.timeline.Stages()}
	if err := writeTimeline(s.request.TimelineFile, r); err != nil {
		log.WithError(err).Warn("no timeline")
	}
}

func writeTimeline(path string, r TimelineReport) error {
	p, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode timeline: %w", err)
	}
	if err := os.WriteFile(path, append(p, '\n'), 0o644); err != nil {
		return fmt.Errorf("write timeline: %w", err)
	}
	return nil
}
