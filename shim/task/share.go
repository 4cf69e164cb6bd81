package task

import (
	"context"
	"fmt"

	"github.com/containerd/log"
	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/runtime/sandbox"
)

// share is an export that containers of a pod use together. Sockets and locks in
// a volume work between those only that see it in the same export.
type share struct {
	export   sandbox.Export
	dev, ino uint64 // of what was at its path when it was made
	users    int
}

// addShare gives the machine x, or finds the export that shows the same if that
// will do, and returns its name. The service's making is held, as for dropShare.
func (m *machine) addShare(ctx context.Context, x sandbox.Export, willDo bool) (name string, err error) {
	var st unix.Stat_t
	if err := unix.Stat(x.Path, &st); err != nil {
		return "", fmt.Errorf("export %s: %w", x.Path, err)
	}
	for _, s := range m.shares {
		same := s.export
		same.Name = x.Name
		// The export holds the inode: its number is not used again.
		if willDo && same == x && s.dev == st.Dev && s.ino == st.Ino {
			s.users++
			return s.export.Name, nil
		}
	}
	if err := m.vm.AddExport(ctx, x); err != nil {
		return "", err
	}
	m.shares = append(m.shares, &share{export: x, dev: st.Dev, ino: st.Ino, users: 1})
	return x.Name, nil
}

// dropShare takes an export away from its last user.
func (m *machine) dropShare(ctx context.Context, name string) {
	for i, s := range m.shares {
		if s.export.Name != name {
			continue
		}
		if s.users--; s.users > 0 {
			return
		}
		m.shares = append(m.shares[:i], m.shares[i+1:]...)
		if err := m.vm.RemoveExport(ctx, name); err != nil {
			log.G(ctx).WithError(err).Warn("export is left in the machine")
		}
		return
	}
}
