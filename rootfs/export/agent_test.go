package export

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/rootfs/changes"
)

// TestTheAgentChangesNothing sends everything that could, as the agent and as
// another process: only the other one has an effect.
func TestTheAgentChangesNothing(t *testing.T) {
	for _, r := range []struct {
		what  string
		op    uint32
		parts func(file, fh, dir uint64) []any
		agent unix.Errno
	}{
		{"truncate", opSetattr, func(_, _, _ uint64) []any { return setattr(setSize, 1, 0) }, 0},
		{"chmod", opSetattr, func(_, _, _ uint64) []any { return setattr(setMode, 0, 0o700) }, 0},
		{"chown", opSetattr, func(_, _, _ uint64) []any { return setattr(setUID|setGID, 0, 0) }, 0},
		{"utimes", opSetattr, func(_, _, _ uint64) []any { return setattr(setMtimeNow, 0, 0) }, 0},
		{"open to truncate", opOpen, func(_, _, _ uint64) []any { return []any{uint32(unix.O_RDWR | unix.O_TRUNC), uint32(0)} }, 0},
		{"write", opWrite, func(_, fh, _ uint64) []any {
			return []any{fh, uint64(0), uint32(1), uint32(0), uint64(0), uint32(0), uint32(0), []byte("x")}
		}, unix.EPERM},
		{"fallocate", opFallocate, func(_, fh, _ uint64) []any { return []any{fh, uint64(0), uint64(9000), uint64(0)} }, unix.EPERM},
		{"setxattr", opSetxattr, func(_, _, _ uint64) []any { return []any{uint32(1), uint32(0), "user.x", []byte("x")} }, unix.EPERM},
		{"removexattr", opRemovexattr, func(_, _, _ uint64) []any { return []any{"user.there"} }, unix.EPERM},
		{"mknod", opMknod, func(_, _, _ uint64) []any {
			return []any{uint32(unix.S_IFREG | 0o600), uint32(0), uint32(0), uint32(0), "new"}
		}, 0},
		{"mkdir", opMkdir, func(_, _, _ uint64) []any { return []any{uint32(0o700), uint32(0), "new"} }, 0},
		{"symlink", opSymlink, func(_, _, _ uint64) []any { return []any{"new", "target"} }, 0},
		{"link", opLink, func(file, _, _ uint64) []any { return []any{file, "new"} }, unix.EPERM},
		{"create", opCreate, func(_, _, _ uint64) []any {
			return []any{uint32(unix.O_RDWR), uint32(0o600), uint32(0), uint32(0), "new"}
		}, unix.EPERM},
		{"tmpfile", opTmpfile, func(_, _, _ uint64) []any {
			return []any{uint32(unix.O_RDWR), uint32(0o600), uint32(0), uint32(0), "new"}
		}, unix.EPERM},
		{"unlink", opUnlink, func(_, _, _ uint64) []any { return []any{"file"} }, 0},
		{"rmdir", opRmdir, func(_, _, _ uint64) []any { return []any{"empty"} }, 0},
		{"rename", opRename, func(_, _, dir uint64) []any { return []any{dir, "file", "new"} }, 0},
		{"rename2", opRename2, func(_, _, dir uint64) []any { return []any{dir, uint32(renameExchange), uint32(0), "file", "empty"} }, 0},
	} {
		for _, pid := range []uint32{7, 8} {
			top := tree(t, map[string]string{"file": "content", "empty/": ""})
			if err := unix.Setxattr(top+"/file", "user.there", []byte("x"), 0); err != nil {
				t.Fatal(err)
			}
			c := newClient(t, Options{Agent: 7}, map[string]string{"in": top})
			dir, file := c.lookup("in"), c.lookup("in", "file")
			fh := c.open(file, unix.O_RDWR)
			before := snapshot(t, top)
			node := dir
			switch r.op {
			case opSetattr, opOpen, opWrite, opFallocate, opSetxattr, opRemovexattr:
				node = file
			}
			c.pid = pid
			_, errno := c.call(r.op, node, r.parts(file, fh, dir)...)
			if pid == 7 {
				c.want("agent's "+r.what, errno, r.agent)
			} else {
				c.want(r.what, errno, 0)
			}
			if same := snapshot(t, top) == before; same != (pid == 7) && r.op != opTmpfile {
				t.Errorf("%s by process %d: host is the same: %v", r.what, pid, same)
			}
		}
	}
}

// TestEveryOpcodeOfTheAgent is for opcodes to come.
func TestEveryOpcodeOfTheAgent(t *testing.T) {
	for opcode := range uint32(opEnd) {
		op := &operations[opcode]
		if a := asAgent(op, opcode); op.mutates && a == op {
			t.Errorf("opcode %d is served for the agent as for others", opcode)
		}
	}
}

// setattr is struct fuse_setattr_in.
func setattr(valid uint32, size uint64, mode uint32) []any {
	return []any{valid, uint32(0), uint64(0), size, make([]byte, 44), mode, make([]byte, 16)}
}

// next asks for a change as the agent.
func (c *client) next(patience uint32) (change changes.Change, errno unix.Errno) {
	c.t.Helper()
	b, errno := c.ask(changes.Next, patience)
	if errno == 0 {
		if err := change.Parse(b[16:]); err != nil {
			c.t.Fatal(err)
		}
	}
	return change, errno
}

func (c *client) ask(cmd uint32, in ...any) ([]byte, unix.Errno) {
	return c.call(opIoctl, rootID, append([]any{uint64(0), uint32(0), cmd, uint64(0), uint32(4096), uint32(12288)}, in...)...)
}

func TestOnlyTheAgentIsToldOfChanges(t *testing.T) {
	c := newClient(t, Options{Agent: 7}, map[string]string{"in": tree(t, map[string]string{"file": ""})})
	for _, cmd := range []uint32{changes.Watch, changes.Unwatch, changes.Next} {
		_, errno := c.ask(cmd, uint64(0))
		c.want(fmt.Sprintf("ioctl %#x", cmd), errno, unix.ENOTTY)
	}
	c.pid = 7
	if change, errno := c.next(1); errno != 0 || change.Kind != changes.None {
		t.Error(change, errno)
	}
	_, errno := c.ask(changes.Next+1, uint32(0))
	c.want("another command", errno, unix.ENOTTY)
	b := c.encode(opIoctl, rootID, uint64(0), uint32(0), uint32(changes.Next), uint64(0), uint32(4), uint32(12288), uint32(1))
	_, errno = c.send(b, 40)
	c.want("no room", errno, errMalformed)
}

// TestWatchesOfAHostileGuest watches everything and nothing, again and again.
func TestWatchesOfAHostileGuest(t *testing.T) {
	files := map[string]string{"dir/file": ""}
	for i := range 200 {
		files[fmt.Sprint(i)] = ""
	}
	top := tree(t, files)
	c := newClient(t, Options{Agent: 7}, map[string]string{"in": top})
	c.export("again", top, Policy{ReadOnly: true})
	c.pid = 7
	var ids []byte
	for i := range 200 {
		ids = binary.LittleEndian.AppendUint64(ids, c.lookup("in", fmt.Sprint(i)))
	}
	for _, id := range []uint64{c.lookup("again"), c.lookup("in"), c.lookup("in", "dir"), rootID, 1 << 63, ^uint64(0)} {
		ids = binary.LittleEndian.AppendUint64(ids, id)
	}
	for range 3 {
		for _, cmd := range []uint32{changes.Watch, changes.Watch, changes.Unwatch, changes.Unwatch, changes.Watch} {
			_, errno := c.ask(cmd, ids)
			c.want("ioctl", errno, 0)
		}
	}
	if n := len(c.s.watches.byID); n != 203 {
		t.Errorf("%d nodes are watched", n)
	}
	if err := c.s.RemoveExport("in"); err != nil {
		t.Fatal(err)
	}
	if n := len(c.s.watches.byID); n != 1 {
		t.Errorf("%d nodes are watched after one export is gone", n)
	}
	if err := unix.Mkdir(top+"/new", 0o755); err != nil {
		t.Fatal(err)
	}
	// The test is the server's process, whose doings are no news.
	if change, _ := c.next(100); change.Kind != changes.None {
		t.Error(change)
	}
}

func TestWaitingForChangesEnds(t *testing.T) {
	c := newClient(t, Options{Agent: 7}, map[string]string{"in": t.TempDir()})
	c.pid = 7
	ended := make(chan unix.Errno, 2)
	for range 2 {
		go func() {
			_, errno := c.ask(changes.Next, ^uint32(0))
			ended <- errno
		}()
	}
	time.Sleep(20 * time.Millisecond)
	c.s.Interrupt()
	for range 2 {
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			t.Fatal("a request still waits")
		}
	}
}
