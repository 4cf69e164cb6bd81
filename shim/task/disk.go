package task

import (
	"context"

	"github.com/containerd/log"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/microvm/microvm/runtime/sandbox"
)

// sharedDisk is a disk that containers of a pod use, a device of them together.
type sharedDisk struct {
	sandbox.Disk
	users int
}

// addDisk gives the machine d, unless it has it already. The service's making is
// held, as for dropDisk.
func (m *machine) addDisk(ctx context.Context, d sandbox.Disk) error {
	for _, k := range m.disks {
		if k.Serial != d.Serial {
			continue
		}
		if k.ReadOnly && !d.ReadOnly {
			return status.Errorf(codes.FailedPrecondition, "disk %s: a container of the pod has it read-only already", d.Path)
		}
		k.users++
		return nil
	}
	if err := m.vm.AddDisk(ctx, d); err != nil {
		return err
	}
	m.disks = append(m.disks, &sharedDisk{d, 1})
	return nil
}

// dropDisk takes a disk away from its last user.
func (m *machine) dropDisk(ctx context.Context, serial string) {
	for i, k := range m.disks {
		if k.Serial != serial {
			continue
		}
		if k.users--; k.users > 0 {
			return
		}
		m.disks = append(m.disks[:i], m.disks[i+1:]...)
		if err := m.vm.RemoveDisk(ctx, serial); err != nil {
			log.G(ctx).WithError(err).Warn("disk is left in the machine")
		}
		return
	}
}
