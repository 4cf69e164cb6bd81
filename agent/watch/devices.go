package watch

import (
	"fmt"
	"os"
	"strings"
)

// devices are the numbers of the share's devices: every export of a directory is
// one of its own, mounted in the share's root by the kernel.
type devices struct {
	share string          // where the share is mounted
	known map[uint64]bool // in the encoding of the kernel's MKDEV
}

// read learns the devices anew.
func (d *devices) read() error {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("list mounts: %w", err)
	}
	d.known = map[uint64]bool{}
	for line := range strings.Lines(string(text)) {
		// 36 35 98:0 /mnt1 /mnt2 rw,noatime ...: proc_pid_mountinfo(5)
		fields := strings.Fields(line)
		if len(fields) < 5 || fields[4] != d.share && !strings.HasPrefix(fields[4], d.share+"/") {
			continue
		}
		var major, minor uint64
		if _, err := fmt.Sscanf(fields[2], "%d:%d", &major, &minor); err != nil {
			return fmt.Errorf("list mounts: %q: %w", line, err)
		}
		d.known[device(major, minor)] = true
	}
	if len(d.known) == 0 {
		return fmt.Errorf("%s is not mounted", d.share)
	}
	return nil
}

// device is MKDEV of linux/kdev_t.h.
func device(major, minor uint64) uint64 { return major<<20 | minor }
