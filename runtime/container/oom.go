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
	s.starved = !tellConmon(s.design.bundle.Dir)
}

// tellConmon leaves the mark by which podman knows, if conmon waits for the
// container. It would make it itself after tellOOM, but Debian 12's leaves it in
// the directory in which podman was called, and podman does not find it.
func tellConmon(bundle string) bool {
	parent, err := os.Readlink("/proc/" + strconv.Itoa(os.Getppid()) + "/exe")
	if err != nil || filepath.Base(parent) != "conmon" {
		return false
	}
	f, err := os.OpenFile(filepath.Join(bundle, "oom"), os.O_CREATE|os.O_WRONLY, 0o644)
	if err == nil {
		f.Close()
	}
	return err == nil
}

// ExhaustVerb is the verb of the command line that calls [cgroup.Exhaust].
const ExhaustVerb = "exhaust"

// tellOOM makes what noteOOM has found known to who watches the machine's
// cgroup, as containerd's shim for runc does for docker. The machine has ended.
func (s *supervisor) tellOOM() {
	if !s.starved || s.cgroup == nil {
		return
	}
	if err := s.cgroup.ProvokeOOM(s.engine.Monitor[0], ExhaustVerb); err != nil {
		s.engine.log(s.request.ID).WithError(err).Debug("docker does not know that the container ran out of memory")
	}
}
