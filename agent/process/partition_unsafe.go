package process

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/agent/api"
)

// blkpg is BLKPG (include/uapi/linux/fs.h).
const blkpg = 0x1269

// partition is struct blkpg_partition (include/uapi/linux/blkpg.h), in bytes.
type partition struct {
	start, length int64
	number        int32
	_             [64 + 64]byte // names, which the kernel does not read
	_             [4]byte
}

// addPartition makes partition n of the block device disk.
func addPartition(disk *os.File, n int, size int64) error {
	return changePartition(disk, unix.BLKPG_ADD_PARTITION, partition{start: int64(n) * api.DiskStride, length: size, number: int32(n)})
}

// deletePartition removes partition n, with what the kernel remembers of it.
func deletePartition(disk *os.File, n int) error {
	return changePartition(disk, unix.BLKPG_DEL_PARTITION, partition{number: int32(n)})
}

func changePartition(disk *os.File, op int32, p partition) error {
	arg := unix.BlkpgIoctlArg{Op: op, Datalen: int32(unsafe.Sizeof(p)), Data: (*byte)(unsafe.Pointer(&p))}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, disk.Fd(), blkpg, uintptr(unsafe.Pointer(&arg))); errno != 0 {
		return fmt.Errorf("change partition %d of %s: %w", p.number, disk.Name(), errno)
	}
	return nil
}
