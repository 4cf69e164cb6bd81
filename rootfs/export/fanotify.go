package export

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// notifier is a fanotify(7) group: the host's kernel tells of changes to the
// inodes that are marked. Unlike inotify it says which process made them, so
// that the guest's own, which this process makes, can be left out.
type notifier struct {
	f *os.File
}

// What the group is asked for: of a directory also what happens to the files
// in it.
const (
	notifyFlags = unix.FAN_CLASS_NOTIF | unix.FAN_CLOEXEC | unix.FAN_NONBLOCK | unix.FAN_REPORT_DFID_NAME | unix.FAN_REPORT_FID

	fileMask = unix.FAN_MODIFY | unix.FAN_ATTRIB | unix.FAN_CLOSE_WRITE | unix.FAN_DELETE_SELF | unix.FAN_MOVE_SELF
	dirMask  = fileMask | unix.FAN_CREATE | unix.FAN_DELETE | unix.FAN_RENAME | unix.FAN_EVENT_ON_CHILD | unix.FAN_ONDIR
)

// newNotifier fails with ENOSYS or EPERM where fanotify can't be had.
func newNotifier() (*notifier, error) {
	fd, err := unix.FanotifyInit(notifyFlags, unix.O_RDONLY|unix.O_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("fanotify_init: %w", err)
	}
	return &notifier{f: os.NewFile(uintptr(fd), "fanotify")}, nil
}

// mark begins to watch the inode of n, which is pinned, and unmark ends it.
func (g *notifier) mark(h *host, n *node) error { return g.change(h, n, unix.FAN_MARK_ADD) }

func (g *notifier) unmark(h *host, n *node) error { return g.change(h, n, unix.FAN_MARK_REMOVE) }

func (g *notifier) change(h *host, n *node, flags uint) error {
	raw, err := g.f.SyscallConn()
	if err != nil {
		return err
	}
	mask := uint64(fileMask)
	if n.isDir() {
		mask = dirMask
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.FanotifyMark(int(fd), flags, mask, h.proc, h.link(n.fd))
	})
	if err != nil {
		return err
	}
	return failed
}

// inodeKey is a file handle with the id of its file system, as the host's
// kernel names inodes in events: struct fanotify_event_info_fid after its
// header.
type inodeKey string

// atHandleFID is AT_HANDLE_FID (linux/fcntl.h): the handle need not be good to
// open the file by.
const atHandleFID = 0x200

// inodeKeyOf is the name of n, which is pinned, in events.
func inodeKeyOf(n *node) (inodeKey, error) {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(n.fd, &fs); err != nil {
		return "", err
	}
	fh, _, err := unix.NameToHandleAt(n.fd, "", unix.AT_EMPTY_PATH|atHandleFID)
	if err == unix.EINVAL { // before Linux 6.5
		fh, _, err = unix.NameToHandleAt(n.fd, "", unix.AT_EMPTY_PATH)
	}
	if err != nil {
		return "", err
	}
	var o encoder
	for _, v := range []uint32{uint32(fs.Fsid.Val[0]), uint32(fs.Fsid.Val[1]), uint32(fh.Size()), uint32(fh.Type())} {
		o.u32(v)
	}
	return inodeKey(append(o.b, fh.Bytes()...)), nil
}

// entryKey is a name in a directory.
type entryKey struct {
	dir  inodeKey
	name string // "." for the directory itself
}

// event is struct fanotify_event_metadata with its records.
type event struct {
	mask   uint64
	pid    int
	object inodeKey // what it happened to, if that is not a new or a lost name
	in     entryKey // where
	// from and to are the names of FAN_RENAME; empty if not watched.
	from, to entryKey
}

// eventBuffer is how many bytes of events are read at once.
const eventBuffer = 32 << 10

// read waits for events. It fails when the group is closed.
func (g *notifier) read(buf []byte) ([]event, error) {
	n, err := g.f.Read(buf)
	if err != nil {
		return nil, err
	}
	var list []event
	for b := buf[:n]; len(b) >= unix.FAN_EVENT_METADATA_LEN; {
		length := min(int(binary.LittleEndian.Uint32(b)), len(b))
		if length < unix.FAN_EVENT_METADATA_LEN {
			break
		}
		list = append(list, parseEvent(b[:length]))
		b = b[length:]
	}
	return list, nil
}

func parseEvent(b []byte) event {
	e := event{mask: binary.LittleEndian.Uint64(b[8:]), pid: int(int32(binary.LittleEndian.Uint32(b[20:])))}
	records := b[min(int(binary.LittleEndian.Uint16(b[6:])), len(b)):]
	for len(records) >= 4 {
		kind, length := records[0], min(int(binary.LittleEndian.Uint16(records[2:])), len(records))
		if length < 4 {
			break
		}
		e.add(kind, records[4:length])
		records = records[length:]
	}
	return e
}

// add takes over one record, whose header is cut off.
func (e *event) add(kind byte, b []byte) {
	const fixed = 16 // file system, length and type of the handle
	if len(b) < fixed {
		return
	}
	end := fixed + int(binary.LittleEndian.Uint32(b[8:]))
	if end > len(b) {
		return
	}
	name, _, _ := bytes.Cut(b[end:], []byte{0})
	entry := entryKey{dir: inodeKey(b[:end]), name: string(name)}
	switch kind {
	case unix.FAN_EVENT_INFO_TYPE_FID:
		e.object = entry.dir
	case unix.FAN_EVENT_INFO_TYPE_DFID_NAME:
		e.in = entry
	case unix.FAN_EVENT_INFO_TYPE_OLD_DFID_NAME:
		e.from = entry
	case unix.FAN_EVENT_INFO_TYPE_NEW_DFID_NAME:
		e.to = entry
	}
}
