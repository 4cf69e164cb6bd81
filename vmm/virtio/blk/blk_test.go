package blk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/microvm/microvm/vmm/virtio"
	"github.com/microvm/microvm/vmm/virtio/queue/queuetest"
)

const sectors = 64

type guest struct {
	t      *testing.T
	dev    *Device
	drv    *queuetest.Driver
	file   string
	failed chan error
}

func newGuest(t *testing.T, readOnly bool) *guest {
	t.Helper()
	g := &guest{t: t, file: filepath.Join(t.TempDir(), "disk"), failed: make(chan error, 8)}
	// A few bytes more than its sectors, and a look of another format.
	content := append([]byte("QFI\xfb"), bytes.Repeat([]byte("abcdefg\n"), sectors*sectorSize/8)...)
	content = append(content, make([]byte, 100)...)
	if err := os.WriteFile(g.file, content[:sectors*sectorSize+100], 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(g.file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	g.dev = New()
	if err := g.dev.Add(Disk{Name: "the-disk", File: f, ReadOnly: readOnly, Label: []byte("its label")}); err != nil {
		t.Fatal(err)
	}
	g.drv = queuetest.New(t, queuetest.Memory(t, 4<<20), 0x1000, queueSize, 1<<20)
	err = g.dev.Activate(virtio.Activation{
		Memory: g.drv.Mem, Features: virtio.TransportFeatures,
		Queues: []*virtio.Queue{g.drv.Activated()}, Fail: func(err error) { g.failed <- err },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.dev.Reset)
	return g
}

// request is one for the first disk.
func request(kind uint32, sector uint64, data ...byte) []byte {
	return deviceRequest(kind, Stride+sector, data...)
}

func deviceRequest(kind uint32, sector uint64, data ...byte) []byte {
	h := make([]byte, headerSize)
	binary.LittleEndian.PutUint32(h, kind)
	binary.LittleEndian.PutUint64(h[8:], sector)
	return append(h, data...)
}

func extent(sector uint64, count, flags uint32) []byte {
	r := make([]byte, rangeSize)
	binary.LittleEndian.PutUint64(r, Stride+sector)
	binary.LittleEndian.PutUint32(r[8:], count)
	binary.LittleEndian.PutUint32(r[12:], flags)
	return r
}

// do sends a request with room bytes for data and returns data and status.
func (g *guest) do(req []byte, room int) ([]byte, status) {
	g.t.Helper()
	g.drv.FreeAll()
	const answer = 2 << 20
	copy(g.drv.Bytes(3<<20, uint64(len(req))), req)
	out := g.drv.Bytes(answer, uint64(room+1))
	for i := range out {
		out[i] = 0xee
	}
	g.drv.SetDesc(0, 3<<20, uint32(len(req)), queuetest.Next, 1)
	g.drv.SetDesc(1, answer, uint32(room+1), queuetest.Write, 0)
	g.drv.Publish(0)
	g.drv.Kick()
	g.drv.WaitUsed()
	return bytes.Clone(out[:room]), status(out[room])
}

func (g *guest) content() []byte {
	g.t.Helper()
	b, err := os.ReadFile(g.file)
	if err != nil {
		g.t.Fatal(err)
	}
	return b
}

func TestReadAndWrite(t *testing.T) {
	g := newGuest(t, false)
	before := g.content()
	got, st := g.do(request(requestIn, 3), 4*sectorSize)
	if st != statusOK || !bytes.Equal(got, before[3*sectorSize:7*sectorSize]) {
		t.Fatalf("read: status %d", st)
	}
	want := bytes.Repeat([]byte{7}, 2*sectorSize)
	if _, st := g.do(request(requestOut, 62, want...), 0); st != statusOK {
		t.Fatalf("write: status %d", st)
	}
	after := g.content()
	if !bytes.Equal(after[62*sectorSize:64*sectorSize], want) || !bytes.Equal(after[:62*sectorSize], before[:62*sectorSize]) || !bytes.Equal(after[64*sectorSize:], before[64*sectorSize:]) {
		t.Error("written elsewhere")
	}
	if _, st := g.do(request(requestFlush, 0), 0); st != statusOK {
		t.Errorf("flush: status %d", st)
	}
	id, st := g.do(request(requestGetID, 0), serialSize)
	if st != statusOK || string(bytes.TrimRight(id, "\x00")) != serial {
		t.Errorf("serial %q, status %d", id, st)
	}
}

func TestClear(t *testing.T) {
	g := newGuest(t, false)
	for i, req := range [][]byte{
		request(requestWriteZeroes, 0, extent(8, 8, 0)...), request(requestWriteZeroes, 0, extent(24, 8, flagUnmap)...), request(requestDiscard, 0, extent(40, 8, 0)...),
	} {
		if _, st := g.do(req, 0); st != statusOK {
			t.Errorf("request %d: status %d", i, st)
		}
		from := (8 + 16*i) * sectorSize
		after := g.content()
		if !bytes.Equal(after[from:from+8*sectorSize], make([]byte, 8*sectorSize)) || after[from-1] == 0 || after[from+8*sectorSize] == 0 {
			t.Errorf("request %d cleared something else", i)
		}
	}
}

// TestRefused has what a malicious driver asks.
func TestRefused(t *testing.T) {
	sector := make([]byte, sectorSize)
	for _, c := range []struct {
		name     string
		readOnly bool
		req      []byte
		room     int
		want     status
	}{
		{"read at the end", false, request(requestIn, sectors), sectorSize, statusIOErr},
		{"read over the end", false, request(requestIn, sectors-1), 2 * sectorSize, statusIOErr},
		{"read where sectors wrap", false, deviceRequest(requestIn, ^uint64(0)), sectorSize, statusIOErr},
		{"read of the last sector", false, deviceRequest(requestIn, capacity-1), sectorSize, statusIOErr},
		{"read behind the last sector", false, deviceRequest(requestIn, capacity), sectorSize, statusIOErr},
		{"read of a disk that is none", false, request(requestIn, Stride), sectorSize, statusIOErr},
		{"read behind the labels", false, deviceRequest(requestIn, MaxDisks+1), sectorSize, statusIOErr},
		{"read over the end of the labels", false, deviceRequest(requestIn, MaxDisks), 2 * sectorSize, statusIOErr},
		{"read of half a label", false, deviceRequest(requestIn, 1), sectorSize / 2, statusIOErr},
		{"write to a label", false, deviceRequest(requestOut, 1, sector...), 0, statusIOErr},
		{"discard of a label", false, deviceRequest(requestDiscard, 0, extent(^uint64(0)-Stride+2, 1, 0)...), 0, statusIOErr},
		{"read where bytes wrap", false, request(requestIn, 1<<55), sectorSize, statusIOErr},
		{"read of half a sector", false, request(requestIn, 0), sectorSize / 2, statusIOErr},
		{"write at the end", false, request(requestOut, sectors, sector...), 0, statusIOErr},
		{"write where bytes wrap", false, request(requestOut, 1<<55, sector...), 0, statusIOErr},
		{"write of half a sector", false, request(requestOut, 0, sector[:100]...), 0, statusIOErr},
		{"write to a read-only disk", true, request(requestOut, 0, sector...), 0, statusIOErr},
		{"discard on a read-only disk", true, request(requestDiscard, 0, extent(0, 1, 0)...), 0, statusIOErr},
		{"zeroes on a read-only disk", true, request(requestWriteZeroes, 0, extent(0, 1, 0)...), 0, statusIOErr},
		{"discard over the end", false, request(requestDiscard, 0, extent(sectors-1, 2, 0)...), 0, statusIOErr},
		{"discard where sectors wrap", false, request(requestDiscard, 0, extent(^uint64(0), 2, 0)...), 0, statusIOErr},
		{"discard of everything", false, request(requestDiscard, 0, extent(0, ^uint32(0), 0)...), 0, statusIOErr},
		{"zeroes over the end", false, request(requestWriteZeroes, 0, extent(sectors, 1, 0)...), 0, statusIOErr},
		{"discard with a flag", false, request(requestDiscard, 0, extent(0, 1, 1)...), 0, statusUnsupported},
		{"zeroes with an unknown flag", false, request(requestWriteZeroes, 0, extent(0, 1, 2)...), 0, statusUnsupported},
		{"discard without a range", false, request(requestDiscard, 0), 0, statusUnsupported},
		{"discard of two ranges", false, request(requestDiscard, 0, append(extent(0, 1, 0), extent(2, 1, 0)...)...), 0, statusUnsupported},
		{"unknown type", false, request(99, 0), sectorSize, statusUnsupported},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newGuest(t, c.readOnly)
			before := g.content()
			if _, st := g.do(c.req, c.room); st != c.want {
				t.Errorf("status %d, want %d", st, c.want)
			}
			if !bytes.Equal(g.content(), before) {
				t.Error("the disk was changed")
			}
		})
	}
}

func TestNoRequestsAtAll(t *testing.T) {
	for name, build := range map[string]func(*queuetest.Driver){
		"short header": func(d *queuetest.Driver) {
			d.SetDesc(0, 3<<20, headerSize-1, queuetest.Next, 1)
			d.SetDesc(1, 2<<20, sectorSize+1, queuetest.Write, 0)
		},
		"no header": func(d *queuetest.Driver) { d.SetDesc(0, 2<<20, sectorSize+1, queuetest.Write, 0) },
		"no status": func(d *queuetest.Driver) { d.SetDesc(0, 3<<20, headerSize, 0, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			g := newGuest(t, false)
			build(g.drv)
			g.drv.Publish(0)
			g.drv.Kick()
			if err := <-g.failed; err == nil {
				t.Error("no error")
			}
		})
	}
}

func TestFileThatShrinks(t *testing.T) {
	g := newGuest(t, false)
	if err := os.Truncate(g.file, 2*sectorSize); err != nil {
		t.Fatal(err)
	}
	if _, st := g.do(request(requestIn, 1), 4*sectorSize); st != statusIOErr {
		t.Errorf("status %d", st)
	}
}

func TestConfiguration(t *testing.T) {
	d := New()
	if d.ID() != 2 || d.Features()&featureFlush == 0 {
		t.Errorf("device %d with features %#x", d.ID(), d.Features())
	}
	c := make([]byte, 8)
	d.ReadConfig(0, c)
	if n := binary.LittleEndian.Uint64(c); n != capacity || n > 1<<63/sectorSize-1 {
		t.Errorf("%d sectors", n)
	}
	d.ReadConfig(^uint32(0), c)
}

func newFile(t *testing.T, content string) *os.File {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestNoDisks(t *testing.T) {
	d := New()
	pipe, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	defer w.Close()
	sector := strings.Repeat("x", sectorSize)
	if err := d.Add(Disk{Name: "here", File: newFile(t, sector)}); err != nil {
		t.Fatal(err)
	}
	for name, disk := range map[string]Disk{
		"a pipe": {File: pipe}, "less than a sector": {File: newFile(t, "short")},
		"a long label": {File: newFile(t, sector), Label: make([]byte, LabelSize+1)},
		"a known name": {File: newFile(t, sector), Name: "here"},
	} {
		if err := d.Add(disk); err == nil {
			t.Errorf("%s was taken", name)
		}
		if name != "a pipe" {
			disk.File.Close()
		}
	}
	if err := d.Remove("there"); err == nil {
		t.Error("what was not there was removed")
	}
}

// TestManyDisks fills the device, and a place in it again.
func TestManyDisks(t *testing.T) {
	g := newGuest(t, false)
	for n := 2; n <= MaxDisks; n++ {
		name := fmt.Sprint("disk ", n)
		content := strings.Repeat(name, sectorSize)[:2*sectorSize]
		if err := g.dev.Add(Disk{Name: name, File: newFile(t, content), Label: []byte(name)}); err != nil {
			t.Fatal(err)
		}
	}
	one := newFile(t, strings.Repeat("y", sectorSize))
	if err := g.dev.Add(Disk{Name: "too many", File: one}); err == nil {
		t.Error("one too many was taken")
	}
	labels, st := g.do(deviceRequest(requestIn, 0), (MaxDisks+1)*sectorSize)
	for n, want := range map[int]string{0: "", 1: "its label", 2: "disk 2", MaxDisks: fmt.Sprint("disk ", MaxDisks)} {
		if got := string(bytes.TrimRight(labels[n*sectorSize:(n+1)*sectorSize], "\x00")); st != statusOK || got != want {
			t.Errorf("label %d: %q, status %d", n, got, st)
		}
	}
	read := func(n uint64) (string, status) {
		got, st := g.do(deviceRequest(requestIn, n*Stride+1), sectorSize)
		return string(got[:1]), st
	}
	if got, st := read(MaxDisks); st != statusOK || got == "" {
		t.Errorf("the last disk: %q, status %d", got, st)
	}
	if err := g.dev.Remove("disk 7"); err != nil {
		t.Fatal(err)
	}
	if _, st := read(7); st != statusIOErr {
		t.Errorf("a removed disk: status %d", st)
	}
	if err := g.dev.Add(Disk{Name: "another", File: newFile(t, strings.Repeat("z", 2*sectorSize)), Label: []byte("another")}); err != nil {
		t.Fatal(err)
	}
	if got, st := read(7); st != statusOK || got != "z" {
		t.Errorf("the new one in its place: %q, status %d", got, st)
	}
	if label, _ := g.do(deviceRequest(requestIn, 7), sectorSize); !bytes.HasPrefix(label, []byte("another\x00")) {
		t.Errorf("its label: %q", label)
	}
}

// TestRemoveInUse keeps a disk's file for the requests that have begun.
func TestRemoveInUse(t *testing.T) {
	d, f := New(), newFile(t, strings.Repeat("x", sectorSize))
	if err := d.Add(Disk{Name: "disk", File: f}); err != nil {
		t.Fatal(err)
	}
	k, _ := d.hold(Stride, 1)
	if k == nil {
		t.Fatal("no disk")
	}
	if err := d.Remove("disk"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Stat(); err != nil {
		t.Errorf("closed under a request: %v", err)
	}
	d.let(k)
	if _, err := f.Stat(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("not closed after the last: %v", err)
	}
}

// TestComingAndGoing has disks come and go under requests.
func TestComingAndGoing(t *testing.T) {
	g := newGuest(t, false)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 200 {
			if err := g.dev.Add(Disk{Name: "other", File: newFile(t, strings.Repeat("o", sectorSize))}); err != nil {
				t.Error(err)
				return
			}
			if err := g.dev.Remove("other"); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		if got, st := g.do(request(requestIn, Stride), sectorSize); st == statusOK && got[0] != 'o' {
			t.Fatalf("read %q", got[:1])
		}
		if _, st := g.do(request(requestOut, Stride, bytes.Repeat([]byte("o"), sectorSize)...), 0); st != statusOK && st != statusIOErr {
			t.Fatalf("write: status %d", st)
		}
		if _, st := g.do(request(requestFlush, 0), 0); st != statusOK {
			t.Fatalf("flush: status %d", st)
		}
	}
}

// TestBlockSize has a block device that only clears whole blocks of 4096 bytes:
// the guest has to write zeroes elsewhere.
func TestBlockSize(t *testing.T) {
	image := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(image, bytes.Repeat([]byte{7}, 6*4096+512), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("losetup", "--find", "--show", "--sector-size", "4096", image).Output()
	if err != nil {
		t.Fatalf("losetup: %v", err)
	}
	path := strings.TrimSpace(string(out))
	defer exec.Command("losetup", "--detach", path).Run()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	g := newGuest(t, false)
	if err := g.dev.Add(Disk{Name: "loop", File: f}); err != nil {
		t.Fatal(err)
	}
	defer g.dev.Remove("loop")
	for sector, want := range map[uint64]status{Stride: statusOK, Stride + 9: statusUnsupported} {
		if _, st := g.do(request(requestWriteZeroes, 0, extent(sector, 8, 0)...), 0); st != want {
			t.Errorf("zeroes at %d: status %d, want %d", sector-Stride, st, want)
		}
		if _, st := g.do(request(requestOut, sector, make([]byte, sectorSize)...), 0); st != statusOK {
			t.Errorf("write at %d: status %d", sector-Stride, st)
		}
	}
	if _, st := g.do(request(requestIn, Stride+6*8), sectorSize); st != statusIOErr {
		t.Errorf("read behind the last block: status %d", st)
	}
}

func FuzzRequest(f *testing.F) {
	f.Add(request(requestIn, 1), uint16(513))
	f.Add(request(requestOut, 1, make([]byte, 512)...), uint16(1))
	f.Add(request(requestDiscard, 0, extent(1, 2, 0)...), uint16(1))
	f.Add(request(requestGetID, 0), uint16(21))
	f.Fuzz(func(t *testing.T, req []byte, room uint16) {
		if len(req) == 0 || len(req) > 1<<16 {
			return
		}
		g := newGuest(t, false)
		size := len(g.content())
		copy(g.drv.Bytes(3<<20, uint64(len(req))), req)
		g.drv.SetDesc(0, 3<<20, uint32(len(req)), queuetest.Next, 1)
		g.drv.SetDesc(1, 2<<20, uint32(room)+1, queuetest.Write, 0)
		g.drv.Publish(0)
		g.drv.Kick()
		g.drv.WaitUsed()
		if n := len(g.content()); n != size {
			t.Errorf("the disk has %d bytes instead of %d", n, size)
		}
	})
}
