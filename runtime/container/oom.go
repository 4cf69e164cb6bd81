package container

import (
	"context"
	"os"
	"path/filepath"
	"strconv"

	"github.com/microvm/microvm/runtime/state"
)

// noteOOM finds out whether a container that was killed had met its memory
// limit, while its cgroup in the guest is still there, and says so.
func (s *supervisor) noteOOM(code int) {
	if code != exitLost { // no SIGKILL
		return
	}
	id := s.request.ID
	m, err := readStats(context.Background(), s.process.agent, id)
	if err != nil || m.GetMemoryEvents().GetOomKill() == 0 {
		return
	}
	log := s.engine.log(id)
	log.Warnf("out of memory: a process of the container was killed at its limit of %d bytes", m.GetMemory().GetUsageLimit())
	if err := s.engine.update(id, func(st *state.State) { st.OOMKilled = true }); err != nil {
		log.WithError(err).Warn("the lack of memory was not recorded")
	}
	tellConmon(s.design.bundle.Dir)
}

// tellConmon leaves the mark by which podman knows. Its conmon makes it when the
// host's kernel kills a process for want of memory; this was the guest's.
func tellConmon(bundle string) {
	parent, err := os.Readlink("/proc/" + strconv.Itoa(os.Getppid()) + "/exe")
	if err != nil || filepath.Base(parent) != "conmon" {
		return
	}
	if f, err := os.OpenFile(filepath.Join(bundle, "oom"), os.O_CREATE|os.O_WRONLY, 0o644); err == nil {
		f.Close()
	}
}
