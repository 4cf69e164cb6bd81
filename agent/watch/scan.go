package watch

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// scanner looks for what processes watch on the share.
type scanner struct {
	devices devices
	entries []byte
	names   []string
	link    [32]byte
}

func newScanner(share string) (scanner, error) {
	s := scanner{devices: devices{share: share}, entries: make([]byte, 8<<10)}
	return s, s.devices.read()
}

// What descriptors of the two kinds lead to.
var (
	linkInotify  = []byte("anon_inode:inotify")
	linkFanotify = []byte("anon_inode:[fanotify]")
)

// scan returns the node ids of all that is watched.
func (s *scanner) scan() map[uint64]bool {
	found := map[uint64]bool{}
	proc, err := os.ReadDir("/proc")
	if err != nil {
		return found
	}
	for _, e := range proc {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() && pid == 1 {
			continue
		}
		s.scanProcess("/proc/"+e.Name(), found)
	}
	return found
}

func (s *scanner) scanProcess(dir string, found map[uint64]bool) {
	fd, err := unix.Open(dir+"/fd", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return // it has ended
	}
	defer unix.Close(fd)
	for {
		n, err := unix.ReadDirent(fd, s.entries)
		if err != nil || n <= 0 {
			return
		}
		_, _, s.names = unix.ParseDirent(s.entries[:n], -1, s.names[:0])
		for _, name := range s.names {
			if s.watches(fd, name) {
				s.read(dir+"/fdinfo/"+name, found)
			}
		}
	}
}

// watches says whether the descriptor name of those in fd has watches.
func (s *scanner) watches(fd int, name string) bool {
	n, err := unix.Readlinkat(fd, name, s.link[:])
	if err != nil {
		return false
	}
	link := s.link[:n]
	return bytes.Equal(link, linkInotify) || bytes.Equal(link, linkFanotify)
}

// read adds the watches that the fdinfo at path lists.
func (s *scanner) read(path string, found map[uint64]bool) {
	if s.devices.read() != nil {
		return
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return
	}
	for line := range strings.Lines(string(text)) {
		if id, ok := s.nodeOf(line); ok {
			found[id] = true
		}
	}
}

// fuseHandle is the type of FUSE's file handles, FILEID_INO64_GEN: the node id,
// its upper half first, and the generation (fuse_encode_fh in fs/fuse/inode.c).
const fuseHandle = "81"

// nodeOf returns the node id of the watch in a line of fdinfo (proc_pid_fdinfo(5)).
func (s *scanner) nodeOf(line string) (id uint64, ok bool) {
	fields := map[string]string{}
	for _, field := range strings.Fields(line) {
		name, value, _ := strings.Cut(field, ":")
		fields[name] = value
	}
	device, err := strconv.ParseUint(fields["sdev"], 16, 64)
	if err != nil || !s.devices.known[device] || fields["fhandle-type"] != fuseHandle {
		return 0, false
	}
	handle, err := hex.DecodeString(fields["f_handle"])
	if err != nil || len(handle) < 8 {
		return 0, false
	}
	return uint64(binary.LittleEndian.Uint32(handle))<<32 | uint64(binary.LittleEndian.Uint32(handle[4:])), true
}
