package sandbox

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Shared is what the containers of one machine use together of its exports and
// disks. Sockets and locks in a volume work between those only that see it in the
// same export. The zero value is for a machine whose containers have nothing yet;
// it is not for concurrent use.
type Shared struct {
	exports map[string]*sharedExport // by their names
	disks   map[string]*sharedDisk   // by their serials
}

type sharedExport struct {
	Export
	dev, ino uint64 // of what was at its path when it was made
	users    int
}

type sharedDisk struct {
	Disk
	users int
}

// Use is what one container has of Shared.
type Use struct {
	exports, serials []string
}

// AddExport gives the machine x for a container with the use u, or finds the export
// that shows the same if that will do, and returns its name.
func (s *Shared) AddExport(ctx context.Context, vm *VM, u *Use, x Export, willDo bool) (name string, err error) {
	var st unix.Stat_t
	if err := unix.Stat(x.Path, &st); err != nil {
		return "", fmt.Errorf("export %s: %w", x.Path, err)
	}
	for _, e := range s.exports {
		same := e.Export
		same.Name = x.Name
		// The export holds the inode: its number is not used again.
		if willDo && same == x && e.dev == st.Dev && e.ino == st.Ino {
			e.users++
			u.exports = append(u.exports, e.Name)
			return e.Name, nil
		}
	}
	if err := vm.AddExport(ctx, x); err != nil {
		return "", err
	}
	if s.exports == nil {
		s.exports = map[string]*sharedExport{}
	}
	s.exports[x.Name] = &sharedExport{Export: x, dev: st.Dev, ino: st.Ino, users: 1}
	u.exports = append(u.exports, x.Name)
	return x.Name, nil
}

// AddDisk gives the machine d for a container with the use u, unless it has it
// already.
func (s *Shared) AddDisk(ctx context.Context, vm *VM, u *Use, d Disk) error {
	known := s.disks[d.Serial]
	switch {
	case known == nil:
		if err := vm.AddDisk(ctx, d); err != nil {
			return err
		}
		if s.disks == nil {
			s.disks = map[string]*sharedDisk{}
		}
		known = &sharedDisk{Disk: d}
		s.disks[d.Serial] = known
	case known.ReadOnly && !d.ReadOnly:
		return fmt.Errorf("disk %s: another container of the machine has it read-only already", d.Path)
	}
	known.users++
	u.serials = append(u.serials, d.Serial)
	return nil
}

// Drop takes away what has no other user than u, which is empty then. Its errors
// say what is left in the machine.
func (s *Shared) Drop(ctx context.Context, vm *VM, u *Use) error {
	var errs []error
	for _, name := range u.exports {
		if e := s.exports[name]; e.users > 1 {
			e.users--
			continue
		}
		delete(s.exports, name)
		errs = append(errs, vm.RemoveExport(ctx, name))
	}
	for _, serial := range u.serials {
		if d := s.disks[serial]; d.users > 1 {
			d.users--
			continue
		}
		delete(s.disks, serial)
		errs = append(errs, vm.RemoveDisk(ctx, serial))
	}
	*u = Use{}
	return errors.Join(errs...)
}
