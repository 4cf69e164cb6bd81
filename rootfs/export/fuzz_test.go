package export

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/rootfs/changes"
)

// FuzzRequests sends a sequence of raw requests, whose first byte is the
// length of each body, to a server with two exports and looks at what lies
// outside of them.
func FuzzRequests(f *testing.F) {
	request := func(op uint32, node uint64, parts ...any) []byte {
		var c client
		b := c.encode(op, node, parts...)
		return append(binary.LittleEndian.AppendUint16(nil, uint16(len(b))), b...)
	}
	lookup := request(opLookup, rootID, "rw")
	f.Add(append(lookup, request(opLookup, 3, "..")...))
	f.Add(append(lookup, request(opCreate, 3, u32(unix.O_RDWR), u32(0o644), uint64(0), "new")...))
	f.Add(append(lookup, request(opReaddirplus, rootID, uint64(0), uint64(0), u32(4096), make([]byte, 20))...))
	f.Add(append(lookup, append(request(opOpendir, 3, uint64(0)), request(opReaddirplus, 3, uint64(1), uint64(0), u32(4096), make([]byte, 20))...)...))
	f.Add(append(lookup, request(opSymlink, 3, "l", "../secret")...))
	f.Add(append(lookup, append(request(opLookup, 3, "file"), request(opSetattr, 4, u32(setMode|setSize|setMtimeNow), make([]byte, 84))...)...))
	f.Add(append(lookup, append(request(opLookup, 3, "file"), request(opOpen, 4, u32(unix.O_RDWR), uint32(0))...)...))
	f.Add(append(lookup, request(opRename2, 3, uint64(3), uint64(0), "file", "to")...))
	f.Add(append(lookup, request(opMknod, 3, u32(unix.S_IFIFO|0o600), uint32(0), uint64(0), "p")...))

	agent := client{pid: 7}
	for _, b := range [][]byte{
		agent.encode(opRename2, 3, uint64(3), uint64(0), "file", "to"), agent.encode(opUnlink, 3, "file"),
		agent.encode(opLookup, 3, changes.Elsewhere), agent.encode(opLookup, firstPhantom+1, "3"), agent.encode(opMkdir, 3, uint64(0), "new"),
	} {
		f.Add(append(lookup, append(binary.LittleEndian.AppendUint16(nil, uint16(len(b))), b...)...))
	}

	f.Fuzz(func(t *testing.T, data []byte) {
		top := tree(t, map[string]string{"secret": "s", "ro/file": "r", "ro/dir/x": "x", "rw/file": "w", "rw/dir/x": "x", "rw/link": "-> ../secret"})
		c := newClient(t, Options{Locks: true, Agent: 7, CachedDescriptors: 2}, nil)
		c.export("ro", filepath.Join(top, "ro"), Policy{ReadOnly: true})
		c.export("rw", filepath.Join(top, "rw"), Policy{})
		before := outside(t, top)
		for len(data) >= 2 {
			n := min(int(binary.LittleEndian.Uint16(data)), len(data)-2)
			in := append([]byte(nil), data[2:2+n]...)
			data = data[2+n:]
			if (&Request{Readable: [][]byte{in}}).Waits() {
				continue
			}
			if n >= 4 && n%3 != 0 {
				binary.LittleEndian.PutUint32(in, uint32(n)) // most get past the first check
			}
			c.send(in, 4096+n%256)
		}
		if after := outside(t, top); after != before {
			t.Errorf("outside:\n%s\nwas:\n%s", after, before)
		}
		if _, err := os.Lstat(filepath.Join(top, "rw")); err != nil {
			t.Error(err)
		}
	})
}

// outside describes everything below top that the guest must not change.
func outside(t *testing.T, top string) string {
	s := snapshot(t, filepath.Join(top, "ro")) + snapshot(t, filepath.Join(top, "secret"))
	names, err := filepath.Glob(filepath.Join(top, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		s += n + "\n"
	}
	return s
}
