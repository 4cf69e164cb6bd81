package process

import (
	"fmt"
	"strings"

	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// defaultFiles is the soft limit on open files for processes whose spec sets
// none; the hard one is the agent's own.
const defaultFiles = 1024

// rlimits are the resources of setrlimit(2) by their name in the spec.
var rlimits = map[string]int{
	"RLIMIT_AS":         unix.RLIMIT_AS,
	"RLIMIT_CORE":       unix.RLIMIT_CORE,
	"RLIMIT_CPU":        unix.RLIMIT_CPU,
	"RLIMIT_DATA":       unix.RLIMIT_DATA,
	"RLIMIT_FSIZE":      unix.RLIMIT_FSIZE,
	"RLIMIT_LOCKS":      unix.RLIMIT_LOCKS,
	"RLIMIT_MEMLOCK":    unix.RLIMIT_MEMLOCK,
	"RLIMIT_MSGQUEUE":   unix.RLIMIT_MSGQUEUE,
	"RLIMIT_NICE":       unix.RLIMIT_NICE,
	"RLIMIT_NOFILE":     unix.RLIMIT_NOFILE,
	"RLIMIT_NPROC":      unix.RLIMIT_NPROC,
	"RLIMIT_RSS":        unix.RLIMIT_RSS,
	"RLIMIT_RTPRIO":     unix.RLIMIT_RTPRIO,
	"RLIMIT_RTTIME":     unix.RLIMIT_RTTIME,
	"RLIMIT_SIGPENDING": unix.RLIMIT_SIGPENDING,
	"RLIMIT_STACK":      unix.RLIMIT_STACK,
}

func newRlimits(limits []specs.POSIXRlimit) ([]configs.Rlimit, error) {
	var own unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &own); err != nil {
		return nil, fmt.Errorf("get limit on open files: %w", err)
	}
	out := []configs.Rlimit{{Type: unix.RLIMIT_NOFILE, Soft: min(defaultFiles, own.Max), Hard: own.Max}}
	for _, l := range limits {
		resource, ok := rlimits[strings.ToUpper(l.Type)]
		if !ok {
			return nil, fail(ErrInvalid, "wrong rlimit value: %s", l.Type)
		}
		limit := configs.Rlimit{Type: resource, Soft: l.Soft, Hard: l.Hard}
		if resource == unix.RLIMIT_NOFILE {
			out[0] = limit
			continue
		}
		out = append(out, limit)
	}
	return out, nil
}

// deferLimits takes from p the limits that libcontainer's own code, which runs
// before the program, is not meant for: one on memory kept it from setting a
// seccomp filter. The first process of a container waits for its start, where
// impose sets them. An exec does not wait, and keeps all.
func (p *process) deferLimits() {
	if !p.lib.Init {
		return
	}
	p.late, p.lib.Rlimits = p.lib.Rlimits[1:], p.lib.Rlimits[:1]
}

// impose sets the deferred limits of p, whose pid is pid.
func (p *process) impose(pid int) error {
	for _, l := range p.late {
		if err := unix.Prlimit(pid, l.Type, &unix.Rlimit{Cur: l.Soft, Max: l.Hard}, nil); err != nil {
			return fmt.Errorf("set limit %d of the process to %d, at most %d: %w", l.Type, l.Soft, l.Hard, err)
		}
	}
	return nil
}
