package cgroup

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/fscommon"
	"github.com/opencontainers/cgroups/manager"
	"golang.org/x/sys/unix"
)

// ErrUnusable says that this process may not use the host's cgroups, or that
// there are none. A machine works without.
var ErrUnusable = errors.New("cgroups of the host are not usable")

// Record is what has to be saved to find a cgroup again.
type Record struct {
	// Paths are those of each hierarchy by controller, or the one of cgroup v2
	// under "".
	Paths   map[string]string `json:"paths"`
	Systemd bool              `json:"systemd,omitempty"`
	// Parent, Prefix and Name are the systemd unit's.
	Parent string `json:"parent,omitempty"`
	Prefix string `json:"prefix,omitempty"`
	Name   string `json:"name,omitempty"`
}

// Cgroup is one machine's.
type Cgroup struct {
	manager cgroups.Manager
	record  Record
	origin  map[string]string // where this process was before Join
}

// New finds the place for container id; nothing is changed. Its error is in
// class ErrUnusable when the host has no cgroups.
func New(id, cgroupsPath string, systemd bool) (*Cgroup, error) {
	config, err := newConfig(id, cgroupsPath, systemd)
	if err != nil {
		return nil, err
	}
	m, err := manager.New(config)
	if err != nil {
		return nil, fmt.Errorf("find cgroup: %w", classify(err))
	}
	if len(m.GetPaths()) == 0 {
		return nil, fmt.Errorf("find cgroup: %w: no hierarchy is mounted", ErrUnusable)
	}
	return &Cgroup{manager: m, record: Record{
		Paths: m.GetPaths(), Systemd: systemd, Parent: config.Parent, Prefix: config.ScopePrefix, Name: config.Name,
	}}, nil
}

// Open finds a recorded cgroup again.
func Open(r Record) (*Cgroup, error) {
	config := &cgroups.Cgroup{
		Systemd: r.Systemd, Parent: r.Parent, ScopePrefix: r.Prefix, Name: r.Name,
		Resources: &cgroups.Resources{SkipDevices: true},
	}
	m, err := manager.NewWithPaths(config, r.Paths)
	if err != nil {
		return nil, fmt.Errorf("open cgroup: %w", classify(err))
	}
	return &Cgroup{manager: m, record: r}, nil
}

// classify adds the class ErrUnusable to what no privileged process on a host
// with cgroups meets.
func classify(err error) error {
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) || cgroups.IsNotFound(err) {
		return fmt.Errorf("%w: %w", ErrUnusable, err)
	}
	return err
}

// Record is to be saved before Join.
func (c *Cgroup) Record() Record { return c.record }

// maxTasks bounds the processes and threads of a machine: what its VM process,
// which may start threads, can take of the host's. Its file server has some 70 at
// most, each CPU one, QEMU and hooks a few more.
const maxTasks = 1024

// Join makes the cgroup and moves this process into it; what it starts from
// now on is there too, and no more than maxTasks where the host can count them.
// After an error nothing is left and the process is where it was.
func (c *Cgroup) Join() error {
	if err := c.checkEmpty(); err != nil {
		return err
	}
	if err := c.checkThawed(); err != nil {
		return err
	}
	c.origin = origin(c.record.Paths)
	err := c.manager.Apply(os.Getpid())
	if err == nil {
		err = c.limitTasks()
	}
	if err == nil {
		return nil
	}
	err = fmt.Errorf("join cgroup: %w", classify(err))
	return errors.Join(err, c.Leave(), c.Remove())
}

func (c *Cgroup) limitTasks() error {
	tasks := int64(maxTasks)
	err := c.set(&cgroups.Resources{SkipDevices: true, PidsLimit: &tasks})
	if errors.Is(err, ErrUnusable) {
		return nil
	}
	return err
}

// Take moves a process, which was started from elsewhere, into the cgroup, which has
// been joined before: not in every hierarchy.
func (c *Cgroup) Take(pid int) error {
	for _, dir := range c.record.Paths {
		if filepath.Clean(dir) == hybridRoot {
			continue
		}
		if err := cgroups.WriteCgroupProc(dir, pid); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("move process %d into cgroup: %w", pid, err)
		}
	}
	return nil
}

// checkEmpty refuses a cgroup that somebody uses.
func (c *Cgroup) checkEmpty() error {
	for _, dir := range c.record.Paths {
		if filepath.Clean(dir) == hybridRoot {
			continue
		}
		pids, err := cgroups.GetAllPids(dir)
		if err == nil && len(pids) > 0 {
			return fmt.Errorf("container's cgroup is not empty: %d process(es) found in %s", len(pids), dir)
		}
	}
	return nil
}

// checkThawed refuses a cgroup in which nothing would run.
func (c *Cgroup) checkThawed() error {
	st, err := c.manager.GetFreezerState()
	if err != nil {
		return fmt.Errorf("look whether the cgroup is frozen: %w", classify(err))
	}
	if st == cgroups.Frozen {
		return fmt.Errorf("container's cgroup unexpectedly frozen: thaw or remove %s", cmp.Or(c.manager.Path("freezer"), c.manager.Path("")))
	}
	return nil
}

// Leave moves this process back to where it was before Join.
func (c *Cgroup) Leave() error {
	var problems []error
	now := origin(c.record.Paths)
	for controller, dir := range c.origin {
		if now[controller] == dir {
			continue // it never left
		}
		if err := cgroups.WriteCgroupProc(dir, os.Getpid()); err != nil {
			problems = append(problems, fmt.Errorf("leave cgroup: %w", err))
		}
	}
	return errors.Join(problems...)
}

// How long Remove waits for processes that are about to be gone, and between two
// looks. A killed machine takes a while to give its memory back.
const (
	removeGrace = 5 * time.Second
	removePause = 20 * time.Millisecond
)

// Remove removes the cgroup, whose processes must have ended or be about to; one
// that is gone is no error.
func (c *Cgroup) Remove() error {
	for end := time.Now().Add(removeGrace); ; time.Sleep(removePause) {
		err := c.manager.Destroy()
		if err == nil {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("remove cgroup: %w", err)
		}
	}
}

// Remove removes the recorded cgroup. One that was never made, because the
// host's are not usable, is no error.
func (r Record) Remove() error {
	c, err := Open(r)
	if err == nil {
		err = c.Remove()
	}
	if errors.Is(err, ErrUnusable) {
		return nil
	}
	return err
}

// OOMKilled tells whether the host's kernel killed something in the cgroup
// because it, or one around it, reached its memory limit.
func (c *Cgroup) OOMKilled() bool {
	n, err := c.manager.OOMKillCount()
	return err == nil && n > 0
}

// MemoryLimit is the cgroup's own, in bytes; 0 if it has none.
func (c *Cgroup) MemoryLimit() uint64 {
	n, err := c.memory("memory.limit_in_bytes", "memory.max")
	if err != nil || n >= unlimited {
		return 0
	}
	return n
}

// memory reads the memory controller's file of cgroup v1 or v2.
func (c *Cgroup) memory(v1, v2 string) (uint64, error) {
	if cgroups.IsCgroup2UnifiedMode() {
		return fscommon.GetCgroupParamUint(c.manager.Path(""), v2)
	}
	return fscommon.GetCgroupParamUint(c.manager.Path("memory"), v1)
}

// unlimited is what cgroup v1 shows for no limit, rounded down to any page size.
const unlimited = 1<<63 - 1<<20
