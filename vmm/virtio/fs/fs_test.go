package fs

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/microvm/microvm/rootfs/export"
	"github.com/microvm/microvm/vmm/virtio"
	"github.com/microvm/microvm/vmm/virtio/queue/queuetest"
	"golang.org/x/sys/unix"
)

// Opcodes of FUSE that the tests send.
const (
	fuseLookup  = 1
	fuseForget  = 2
	fuseGetattr = 3
	fuseOpen    = 14
	fuseRead    = 15
	fuseWrite   = 16
	fuseInit    = 26
	fuseSetlkw  = 33
	fuseSetlk   = 32
)

// guest drives a device with two request queues.
type guest struct {
	t      *testing.T
	dev    *Device
	queues []*queuetest.Driver
	failed chan error
	unique uint64
	dir    string // what is exported as "dir"
}

func newGuest(t *testing.T, o Options) *guest {
	t.Helper()
	server, err := export.NewServer(export.Options{Locks: true})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := server.AddExport("dir", f, export.Policy{}); err != nil {
		t.Fatal(err)
	}
	dev, err := New(server, o)
	if err != nil {
		t.Fatal(err)
	}
	g := &guest{t: t, dev: dev, dir: dir, failed: make(chan error, 8)}
	mem := queuetest.Memory(t, 16<<20)
	for i := range dev.QueueSizes() {
		g.queues = append(g.queues, queuetest.New(t, mem, uint64(i)*(4<<20), 64, 3<<20))
	}
	t.Cleanup(func() {
		dev.Reset()
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	g.activate()
	return g
}

func (g *guest) activate() {
	g.t.Helper()
	a := virtio.Activation{Memory: g.queues[0].Mem, Fail: func(err error) { g.failed <- err }}
	for _, q := range g.queues {
		a.Queues = append(a.Queues, q.Activated())
	}
	if err := g.dev.Activate(a); err != nil {
		g.t.Fatal(err)
	}
}

// encode makes a request of header and 32 or 64-bit fields.
func (g *guest) encode(op uint32, node uint64, parts ...any) []byte {
	var b bytes.Buffer
	g.unique++
	for _, v := range append([]any{uint32(0), op, g.unique, node, uint64(0), uint64(0)}, parts...) {
		if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
			g.t.Fatal(err)
		}
	}
	binary.LittleEndian.PutUint32(b.Bytes(), uint32(b.Len()))
	return b.Bytes()
}

// call sends a request on queue q and returns the answer's body.
func (g *guest) call(q int, op uint32, node uint64, parts ...any) []byte {
	g.t.Helper()
	g.queues[q].FreeAll()
	out := g.queues[q].Do(g.encode(op, node, parts...), 8192)
	if len(out) < 16 {
		g.t.Fatalf("opcode %d: answer of %d bytes", op, len(out))
	}
	if errno := -int32(binary.LittleEndian.Uint32(out[4:])); errno != 0 {
		g.t.Fatalf("opcode %d: %v", op, unix.Errno(errno))
	}
	return out[16:]
}

func (g *guest) init() {
	g.t.Helper()
	g.call(1, fuseInit, 0, uint32(7), uint32(38), uint32(0), ^uint32(0))
}

// open looks dir/file up and opens it.
func (g *guest) open(q int) (node, fh uint64) {
	g.t.Helper()
	dir := binary.LittleEndian.Uint64(g.call(q, fuseLookup, 1, []byte("dir\x00")))
	node = binary.LittleEndian.Uint64(g.call(q, fuseLookup, dir, []byte("file\x00")))
	return node, binary.LittleEndian.Uint64(g.call(q, fuseOpen, node, uint32(unix.O_RDWR), uint32(0)))
}

func TestConfiguration(t *testing.T) {
	g := newGuest(t, Options{Tag: "exports", RequestQueues: 2})
	if g.dev.ID() != 26 || g.dev.Features() != 0 || len(g.dev.QueueSizes()) != 3 {
		t.Error(g.dev.ID(), g.dev.Features(), g.dev.QueueSizes())
	}
	want := append(append([]byte("exports"), make([]byte, 29)...), 2, 0, 0, 0)
	for off := range uint32(50) {
		for n := range 50 {
			got := bytes.Repeat([]byte{0xff}, n)
			g.dev.WriteConfig(off, got)
			g.dev.ReadConfig(off, got)
			full := make([]byte, 200)
			copy(full, want)
			if !bytes.Equal(got, full[off:int(off)+n]) {
				t.Fatalf("read %d at %d: %v", n, off, got)
			}
		}
	}
	g.dev.ReadConfig(^uint32(0), make([]byte, 8))
}

func TestBadOptions(t *testing.T) {
	for _, o := range []Options{{}, {Tag: string(make([]byte, 37))}, {Tag: "t", RequestQueues: -1}, {Tag: "t", RequestQueues: 65}, {Tag: "t", Workers: -1}} {
		if _, err := New(nil, o); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
}

func TestReadAndWriteOnEveryQueue(t *testing.T) {
	g := newGuest(t, Options{Tag: "t", RequestQueues: 2})
	g.init()
	for q := 1; q <= 2; q++ {
		node, fh := g.open(q)
		text := fmt.Sprintf("written on queue %d", q)
		g.call(q, fuseWrite, node, fh, uint64(0), uint32(len(text)), uint32(0), uint64(0), uint64(0), []byte(text))
		if got := g.call(q, fuseRead, node, fh, uint64(0), uint32(4096), uint32(0), uint64(0), uint64(0)); string(got) != text {
			t.Errorf("read %q", got)
		}
		if b, err := os.ReadFile(filepath.Join(g.dir, "file")); string(b) != text {
			t.Errorf("host reads %q, %v", b, err)
		}
	}
}

func TestManyRequestsAtOnce(t *testing.T) {
	g := newGuest(t, Options{Tag: "t", Workers: 3})
	g.init()
	node, fh := g.open(1)
	for range 50 {
		d := g.queues[1]
		d.FreeAll()
		waiting := map[uint16]queuetest.Buffer{}
		for range 25 {
			b := d.Add(g.encode(fuseRead, node, fh, uint64(0), uint32(4096), uint32(0), uint64(0), uint64(0)), 8192)
			waiting[b.Head] = b
			d.Kick()
		}
		for range 25 {
			head, n := d.WaitUsed()
			b, ok := waiting[head]
			if delete(waiting, head); !ok || string(b.In[16:n]) != "content" {
				t.Fatalf("head %d: %q", head, b.In[:n])
			}
		}
	}
}

func TestForgetsAreServed(t *testing.T) {
	g := newGuest(t, Options{Tag: "t"})
	g.init()
	node, _ := g.open(1)
	d := g.queues[0]
	b := d.Add(g.encode(fuseForget, node, uint64(1)), 0)
	d.Kick()
	if head, n := d.WaitUsed(); head != b.Head || n != 0 {
		t.Error(head, n)
	}
	g.queues[1].FreeAll()
	out := g.queues[1].Do(g.encode(fuseGetattr, node, uint64(0), uint64(0)), 4096)
	if errno := unix.Errno(-int32(binary.LittleEndian.Uint32(out[4:]))); errno != unix.ESTALE {
		t.Error("GETATTR of a forgotten node:", errno)
	}
}

// lock encodes SETLK or SETLKW by the given owner.
func (g *guest) lock(op uint32, node, fh, owner uint64, kind int) []byte {
	return g.encode(op, node, fh, owner, uint64(0), uint64(1<<63-1), uint32(kind), uint32(0), uint64(0))
}

func TestWaitingLocksHoldNoWorker(t *testing.T) {
	g := newGuest(t, Options{Tag: "t", Workers: 2})
	g.init()
	node, fh := g.open(1)
	d := g.queues[1]
	d.Do(g.lock(fuseSetlk, node, fh, 1, unix.F_WRLCK), 16)
	waiting := map[uint16]queuetest.Buffer{}
	for owner := range uint64(20) {
		b := d.Add(g.lock(fuseSetlkw, node, fh, 100+owner, unix.F_RDLCK), 16)
		waiting[b.Head] = b
	}
	d.Kick()
	// The device still works, and the release lets all of them in.
	unlock := d.Add(g.lock(fuseSetlk, node, fh, 1, unix.F_UNLCK), 16)
	d.Kick()
	for range 21 {
		head, n := d.WaitUsed()
		if head == unlock.Head {
			continue
		}
		b := waiting[head]
		delete(waiting, head)
		if errno := int32(binary.LittleEndian.Uint32(b.In[4:])); n != 16 || errno != 0 {
			t.Errorf("lock: %d bytes, error %d", n, errno)
		}
	}
	if len(waiting) != 0 {
		t.Errorf("%d locks were not answered", len(waiting))
	}
}

func TestResetEndsWaitingLocks(t *testing.T) {
	g := newGuest(t, Options{Tag: "t"})
	g.init()
	node, fh := g.open(1)
	d := g.queues[1]
	d.Do(g.lock(fuseSetlk, node, fh, 1, unix.F_WRLCK), 16)
	for owner := range uint64(5) {
		d.Add(g.lock(fuseSetlkw, node, fh, 100+owner, unix.F_WRLCK), 16)
	}
	d.Kick()
	done := make(chan struct{})
	go func() { g.dev.Reset(); close(done) }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("Reset waits for a lock")
	}
}

func TestManyResets(t *testing.T) {
	g := newGuest(t, Options{Tag: "t", RequestQueues: 2})
	for range 100 {
		g.init()
		g.open(2)
		g.queues[1].FreeAll()
		for range 10 {
			g.queues[1].Add(g.encode(fuseGetattr, 1, uint64(0), uint64(0)), 200)
		}
		g.queues[1].Kick()
		g.dev.Reset()
		g.dev.Reset()
		for i, q := range g.queues {
			g.queues[i] = queuetest.New(t, q.Mem, uint64(i)*(4<<20), 64, 3<<20)
			clear(g.queues[i].Bytes(g.queues[i].Config.Desc, 16*64+4096))
		}
		g.activate()
	}
}

func TestBrokenRingFails(t *testing.T) {
	g := newGuest(t, Options{Tag: "t"})
	g.queues[1].SetAvailIdx(5000)
	g.queues[1].Kick()
	select {
	case err := <-g.failed:
		t.Log(err)
	case <-time.After(10 * time.Second):
		t.Fatal("the device did not fail")
	}
}
