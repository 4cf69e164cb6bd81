package cgroup

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"
)

// How much memory, in bytes, the process of ProvokeOOM finds left, enough for a
// program in Go to start, and how much it asks for.
const (
	left   = 32 << 20
	hunger = 4 * left
)

// ProvokeOOM lets the host's kernel kill a process in the cgroup for want of
// memory, and so tell everybody who watches the cgroup what the guest's kernel
// has done. program is to call Exhaust. This process has to be in the cgroup,
// and its machine to have ended; the memory limit is lowered for good.
func (c *Cgroup) ProvokeOOM(program ...string) error {
	used, err := c.memory("memory.usage_in_bytes", "memory.current")
	if err != nil {
		return fmt.Errorf("read memory use of the machine's cgroup: %w", classify(err))
	}
	limit := int64(used) + left
	if err := c.set(&cgroups.Resources{SkipDevices: true, Memory: limit, MemorySwap: limit}); err != nil {
		return fmt.Errorf("lower memory limit of the machine's cgroup: %w", err)
	}
	var exit *exec.ExitError
	err = exec.Command(program[0], program[1:]...).Run()
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == unix.SIGKILL {
		return nil
	}
	return fmt.Errorf("process that was to be killed for want of memory: %w", err)
}

// Exhaust uses more memory than ProvokeOOM has left, as the first process that
// the kernel is to kill. It returns if that does not happen.
func Exhaust() error {
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0); err != nil {
		return err
	}
	memory, err := unix.Mmap(-1, 0, hunger, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	for i := 0; i < len(memory); i += os.Getpagesize() {
		memory[i] = 1
	}
	return unix.Munmap(memory)
}
