package sandbox

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/vmm/control"
)

// open opens e, and says what the VM process is to know of it.
func (e *Export) open() (*os.File, control.Export, error) {
	x := control.Export{Name: e.Name, ReadOnly: e.ReadOnly, OneDevice: e.OneDevice, Cache: e.Cache}
	f, copied, err := e.openMount()
	if err != nil {
		return nil, x, fmt.Errorf("open export %s: %w", e.Name, err)
	}
	if e.ReadOnly && e.WritableMounts && copied {
		// The server knows exports only: here the host's kernel refuses writes.
		attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
		x.ReadOnly = unix.MountSetattr(int(f.Fd()), "", unix.AT_EMPTY_PATH, attr) != nil
	}
	return f, x, nil
}

// openMount opens e by a copy of the mounts that it shows, if they are not to
// follow the host's: the copy is attached nowhere and ends with its descriptor,
// and the host can unmount the original. Who may not mount can't copy either, and
// gets the originals.
func (e *Export) openMount() (f *os.File, copied bool, err error) {
	if !e.Follow {
		flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
		if e.Submounts {
			flags |= unix.AT_RECURSIVE
		}
		fd, err := unix.OpenTree(unix.AT_FDCWD, e.Path, flags)
		if err == nil {
			return os.NewFile(uintptr(fd), e.Path), true, nil
		}
		if err != unix.EPERM && err != unix.EINVAL && err != unix.ENOSYS {
			return nil, false, &os.PathError{Op: "open", Path: e.Path, Err: err}
		}
	}
	f, err = os.OpenFile(e.Path, unix.O_PATH, 0)
	return f, false, err
}

// AddExport shows the running guest one more directory or file.
func (vm *VM) AddExport(ctx context.Context, x Export) error {
	f, shown, err := x.open()
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = vm.request(ctx, control.Request{Op: control.OpAddExport, Export: &shown}, f)
	return err
}

// RemoveExport takes away what AddExport, or the machine's configuration, has
// shown.
func (vm *VM) RemoveExport(ctx context.Context, name string) error {
	_, err := vm.request(ctx, control.Request{Op: control.OpRemoveExport, Export: &control.Export{Name: name}})
	return err
}
