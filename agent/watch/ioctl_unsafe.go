package watch

import (
	"encoding/binary"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/rootfs/changes"
)

// sendIDs passes ids to the command cmd, in as many calls as it takes.
func sendIDs(root int, cmd uintptr, ids []uint64) error {
	for len(ids) > 0 {
		var arg [changes.IDsSize]byte
		n := min(len(ids), changes.IDsSize/8)
		for i, id := range ids[:n] {
			binary.LittleEndian.PutUint64(arg[8*i:], id)
		}
		if err := ioctl(root, cmd, unsafe.Pointer(&arg)); err != nil {
			return err
		}
		ids = ids[n:]
	}
	return nil
}

// nextChange waits for a change for at most the given time.
func nextChange(root int, patience time.Duration) (c changes.Change, err error) {
	var arg [changes.NextSize]byte
	binary.LittleEndian.PutUint32(arg[:], uint32(patience.Milliseconds()+1))
	if err := ioctl(root, changes.Next, unsafe.Pointer(&arg)); err != nil {
		return c, err
	}
	return c, c.Parse(arg[:])
}

func ioctl(fd int, cmd uintptr, arg unsafe.Pointer) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), cmd, uintptr(arg))
		if errno == 0 {
			return nil
		}
		if errno != unix.EINTR {
			return errno
		}
	}
}
