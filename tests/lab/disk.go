package lab

import (
	"fmt"
	"os"
	"os/exec"
)

// newScratchDisk makes an empty ext4 file system in a sparse file that has no
// name any more: its space is free again when the last descriptor is closed.
func newScratchDisk(size int64) (*os.File, error) {
	dir := cacheDir()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	disk, err := os.CreateTemp(dir, "lab-disk-")
	if err != nil {
		return nil, err
	}
	os.Remove(disk.Name())
	if err := format(disk, size); err != nil {
		disk.Close()
		return nil, err
	}
	return disk, nil
}

func format(disk *os.File, size int64) error {
	if err := disk.Truncate(size); err != nil {
		return err
	}
	// No journal: nobody looks at the disk after a crash.
	mkfs := exec.Command("/sbin/mkfs.ext4", "-q", "-F", "-m0", "-O", "^has_journal",
		"-E", "lazy_itable_init=1,nodiscard")
	mkfs.Args = append(mkfs.Args, fmt.Sprintf("/proc/self/fd/%d", passFile(mkfs, disk)))
	if output, err := mkfs.CombinedOutput(); err != nil {
		return fmt.Errorf("format scratch disk: %w: %s", err, output)
	}
	return nil
}
