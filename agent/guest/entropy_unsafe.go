package guest

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxEntropy bounds the seed that the host may give, in bytes.
const maxEntropy = 512

// poolInfo is struct rand_pool_info (include/uapi/linux/random.h).
type poolInfo struct {
	entropyCount int32 // bits
	bufSize      int32 // bytes
	buf          [maxEntropy]byte
}

// addEntropy adds seed to the kernel's pool and counts all its bits.
func addEntropy(seed []byte) error {
	if len(seed) > maxEntropy {
		return fmt.Errorf("add entropy: %d bytes are over %d", len(seed), maxEntropy)
	}
	f, err := os.OpenFile("/dev/random", os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("add entropy: %w", err)
	}
	defer f.Close()
	info := poolInfo{entropyCount: int32(len(seed) * 8), bufSize: int32(len(seed))}
	copy(info.buf[:], seed)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.RNDADDENTROPY, uintptr(unsafe.Pointer(&info)))
	if errno != 0 {
		return fmt.Errorf("add entropy: %w", errno)
	}
	return nil
}
