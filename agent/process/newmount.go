package process

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// fsOption is an option of a file system; without a value it is a flag.
type fsOption struct{ key, value string }

type fsConfig []fsOption

// mountAttributes are options of a mount, not of the file system in it.
var mountAttributes = map[string]int{
	"nosuid": unix.MOUNT_ATTR_NOSUID, "nodev": unix.MOUNT_ATTR_NODEV, "noexec": unix.MOUNT_ATTR_NOEXEC,
	"noatime": unix.MOUNT_ATTR_NOATIME, "nodiratime": unix.MOUNT_ATTR_NODIRATIME, "strictatime": unix.MOUNT_ATTR_STRICTATIME,
}

// defaults say what is so anyway.
var defaults = []string{"defaults", "rw", "relatime", "suid", "dev", "exec", "atime", "diratime"}

// mountNew mounts a new file system at place. Errors have the words of the kernel
// with them.
func (c *container) mountNew(kind, place string, config fsConfig) error {
	fs, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("open file system %s: %w", kind, err)
	}
	defer unix.Close(fs)
	attributes, err := config.apply(fs)
	if err != nil {
		return err
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return explain(fs, "open the file system", err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attributes)
	if err != nil {
		return explain(fs, "mount", err)
	}
	defer unix.Close(fd)
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, place, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount at %s: %w", place, err)
	}
	c.root.mounted = append(c.root.mounted, place)
	return nil
}

// apply tells the file system its options, and returns those of the mount.
func (c fsConfig) apply(fs int) (attributes int, err error) {
	for _, o := range c {
		attribute, ok := mountAttributes[o.key]
		switch {
		case ok:
			attributes |= attribute
		case slices.Contains(defaults, o.key):
		case o.value != "":
			err = unix.FsconfigSetString(fs, o.key, o.value)
		default:
			err = unix.FsconfigSetFlag(fs, o.key)
		}
		if err != nil {
			return 0, explain(fs, "set option "+o.key, err)
		}
		if o.key == "ro" {
			attributes |= unix.MOUNT_ATTR_RDONLY
		}
	}
	return attributes, nil
}

// explain adds what the kernel has said about a file system (fsopen(2)).
func explain(fs int, what string, err error) error {
	buf := make([]byte, 1024)
	var said []string
	for {
		n, e := unix.Read(fs, buf)
		if e != nil || n == 0 {
			break
		}
		said = append(said, strings.TrimSpace(string(buf[:n])))
	}
	if len(said) > 0 {
		return fmt.Errorf("%s: %w: %s", what, err, strings.Join(said, "; "))
	}
	return fmt.Errorf("%s: %w", what, err)
}
