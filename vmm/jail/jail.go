package jail

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// Sentinels of the walls, joined with the cause.
var (
	ErrNamespaces   = errors.New("jail: namespaces")
	ErrDescriptors  = errors.New("jail: descriptors")
	ErrRoot         = errors.New("jail: empty root")
	ErrLimits       = errors.New("jail: resource limits")
	ErrCapabilities = errors.New("jail: capabilities")
	ErrFilter       = errors.New("jail: system call filter")
)

// Config says what the machine needs of its process.
type Config struct {
	// Child says that the process has QEMU as a child, which it must be able to
	// kill.
	Child bool
	// Devices says that the file server makes device nodes.
	Devices bool
}

// Jail is one that is ready to be closed.
type Jail struct {
	// alone says that the process has a user namespace of its own, in which
	// nobody else exists: capabilities there are over nothing but its mounts.
	alone bool
}

// Prepare makes the process ready to be confined, before it opens anything by path.
// inherited are the descriptors that it was started with, handed those of them that
// it was meant to be, apart from the standard ones.
func Prepare(inherited, handed []int) (*Jail, error) {
	if off {
		return &Jail{}, nil
	}
	// The first process of a pid namespace has been started as control.Namespaces
	// asks for, or the mounts that follow would be the host's.
	if os.Getpid() != 1 {
		return nil, fmt.Errorf("%w: this process is not the first of its own: start it as control.Namespaces says", ErrNamespaces)
	}
	if err := checkDescriptors(inherited, handed); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDescriptors, err)
	}
	if err := forbidPrivileges(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCapabilities, err)
	}
	if err := coverProc(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNamespaces, err)
	}
	ids, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNamespaces, err)
	}
	return &Jail{alone: isAlone(string(ids))}, nil
}

// isAlone tells whether a uid_map has one user only (user_namespaces(7)).
func isAlone(ids string) bool {
	fields := strings.Fields(ids)
	return len(fields) == 3 && fields[2] == "1"
}

// Enter closes the jail behind the process, for good. Everything that it will
// ever open by path must be open.
func (j *Jail) Enter(c Config) error {
	return build([]wall{
		{ErrRoot, enterEmptyRoot},
		{ErrLimits, setLimits},
		{ErrCapabilities, func() error { return setCapabilities(j.keeps(c)) }},
		{ErrFilter, func() error { return loadFilter(machineRules()) }},
	})
}

// Confine builds the walls that stand by themselves around a process which anybody has
// started, in the host's namespaces: limits, capabilities and the filter of system
// calls. Its root directory is the caller's affair. It is for good, too.
func Confine(c Config) error {
	return build([]wall{
		{ErrLimits, setLimits},
		{ErrCapabilities, forbidPrivileges},
		{ErrCapabilities, func() error { return setCapabilities((&Jail{}).keeps(c)) }},
		{ErrFilter, func() error { return loadFilter(machineRules()) }},
	})
}

type wall struct {
	sentinel error
	build    func() error
}

func build(walls []wall) error {
	if off {
		return nil
	}
	for _, wall := range walls {
		if err := wall.build(); err != nil {
			return fmt.Errorf("%w: %w", wall.sentinel, err)
		}
	}
	return nil
}

// onAllThreads makes a system call on every thread of the process.
func onAllThreads(trap, a1, a2, a3 uintptr) error {
	if _, _, errno := syscall.AllThreadsSyscall(trap, a1, a2, a3); errno != 0 {
		return errno
	}
	return nil
}
