package queue_test

import (
	"bytes"
	"errors"
	"math"
	"testing"

	"github.com/microvm/microvm/vmm/virtio/queue"
	"github.com/microvm/microvm/vmm/virtio/queue/queuetest"
)

const ringSize = 8

func newDriver(t testing.TB) *queuetest.Driver {
	return queuetest.New(t, queuetest.Memory(t, 1<<20), 0x1000, ringSize, 0x8000)
}

func TestPopReturnsWhatTheDriverAdded(t *testing.T) {
	d := newDriver(t)
	q := d.Queue()
	var c queue.Chain
	for range 3 * ringSize {
		d.FreeAll()
		b := d.Add([]byte("request"), 16)
		ok, err := q.Pop(&c)
		if !ok || err != nil {
			t.Fatal(ok, err)
		}
		got := make([]byte, 32)
		if n := c.Read(got, 2); string(got[:n]) != "quest" {
			t.Fatalf("read %q", got[:n])
		}
		if n := c.Write([]byte("answer"), 0); n != 6 {
			t.Fatalf("wrote %d", n)
		}
		q.Push(c.Head, 6)
		head, n, ok := d.Used()
		if !ok || head != b.Head || n != 6 || !bytes.HasPrefix(b.In, []byte("answer")) {
			t.Fatalf("used %v %d %d %q", ok, head, n, b.In)
		}
	}
	if ok, err := q.Pop(&c); ok || err != nil {
		t.Fatal("empty ring popped", ok, err)
	}
}

func TestIndirectTableOfRingSizeIsWhole(t *testing.T) {
	d := newDriver(t)
	q := d.Queue()
	addr, table := d.Alloc(16 * ringSize)
	data, _ := d.Alloc(ringSize)
	for i := range uint16(ringSize) {
		flags := uint16(queuetest.Next)
		if i == ringSize-1 {
			flags = 0
		}
		queuetest.PutDesc(table[16*i:], data+uint64(i), 1, flags, i+1)
	}
	d.SetDesc(0, addr, 16*ringSize, queuetest.Indirect, 0)
	d.Publish(0)
	var c queue.Chain
	ok, err := q.Pop(&c)
	if !ok || err != nil || c.ReadableLen != ringSize {
		t.Fatal(ok, err, c.ReadableLen)
	}
}

func TestBrokenChainsAreRefused(t *testing.T) {
	const buf = 0x9000
	cases := map[string]func(d *queuetest.Driver){
		"loop": func(d *queuetest.Driver) {
			d.SetDesc(0, buf, 1, queuetest.Next, 1)
			d.SetDesc(1, buf, 1, queuetest.Next, 0)
		},
		"next out of range":     func(d *queuetest.Driver) { d.SetDesc(0, buf, 1, queuetest.Next, ringSize) },
		"address zero":          func(d *queuetest.Driver) { d.SetDesc(0, 0, 1, 0, 0) },
		"address beyond memory": func(d *queuetest.Driver) { d.SetDesc(0, 1<<20, 1, 0, 0) },
		"end beyond memory":     func(d *queuetest.Driver) { d.SetDesc(0, 1<<20-1, 2, 0, 0) },
		"address wraps":         func(d *queuetest.Driver) { d.SetDesc(0, math.MaxUint64, 2, 0, 0) },
		"length zero":           func(d *queuetest.Driver) { d.SetDesc(0, buf, 0, 0, 0) },
		"length huge":           func(d *queuetest.Driver) { d.SetDesc(0, buf, math.MaxUint32, 0, 0) },
		"readable after writable": func(d *queuetest.Driver) {
			d.SetDesc(0, buf, 1, queuetest.Next|queuetest.Write, 1)
			d.SetDesc(1, buf, 1, 0, 0)
		},
		"indirect with next":        func(d *queuetest.Driver) { d.SetDesc(0, buf, 16, queuetest.Indirect|queuetest.Next, 1) },
		"indirect with write":       func(d *queuetest.Driver) { d.SetDesc(0, buf, 16, queuetest.Indirect|queuetest.Write, 0) },
		"indirect odd length":       func(d *queuetest.Driver) { d.SetDesc(0, buf, 17, queuetest.Indirect, 0) },
		"indirect length zero":      func(d *queuetest.Driver) { d.SetDesc(0, buf, 0, queuetest.Indirect, 0) },
		"indirect longer than ring": func(d *queuetest.Driver) { d.SetDesc(0, buf, 16*(ringSize+1), queuetest.Indirect, 0) },
		"indirect outside memory":   func(d *queuetest.Driver) { d.SetDesc(0, 1<<20, 16, queuetest.Indirect, 0) },
		"indirect nested": func(d *queuetest.Driver) {
			queuetest.PutDesc(d.Bytes(buf, 16), buf, 16, queuetest.Indirect, 0)
			d.SetDesc(0, buf, 16, queuetest.Indirect, 0)
		},
		"indirect next out of its table": func(d *queuetest.Driver) {
			queuetest.PutDesc(d.Bytes(buf, 16), buf, 16, queuetest.Next, 1)
			d.SetDesc(0, buf, 16, queuetest.Indirect, 0)
		},
	}
	for name, set := range cases {
		t.Run(name, func(t *testing.T) {
			d := newDriver(t)
			q := d.Queue()
			set(d)
			d.Publish(0)
			expectBroken(t, q)
		})
	}
}

func expectBroken(t *testing.T, q *queue.Queue) {
	t.Helper()
	var c queue.Chain
	if ok, err := q.Pop(&c); ok || !errors.Is(err, queue.ErrBroken) {
		t.Fatalf("Pop = %v, %v; want ErrBroken", ok, err)
	}
}

func TestChainOverFourGiBIsRefused(t *testing.T) {
	mem := queuetest.Memory(t, 3<<30)
	d := queuetest.New(t, mem, 0x1000, ringSize, 0x1000)
	d.SetDesc(0, 0x10000, 2<<30, queuetest.Next, 1)
	d.SetDesc(1, 0x10000, 2<<30, 0, 0)
	d.Publish(0)
	expectBroken(t, d.Queue())
}

func TestIndirectWithoutTheFeatureIsRefused(t *testing.T) {
	d := newDriver(t)
	d.Config.Indirect = false
	q := d.Queue()
	addr, table := d.Alloc(16)
	queuetest.PutDesc(table, addr, 1, 0, 0)
	d.SetDesc(0, addr, 16, queuetest.Indirect, 0)
	d.Publish(0)
	expectBroken(t, q)
}

func TestHeadInFlightIsRefused(t *testing.T) {
	d := newDriver(t)
	q := d.Queue()
	d.SetDesc(3, 0x9000, 1, 0, 0)
	d.Publish(3)
	d.Publish(3)
	var c queue.Chain
	if ok, err := q.Pop(&c); !ok || err != nil {
		t.Fatal(ok, err)
	}
	expectBroken(t, q)
}

func TestHeadOutOfRangeIsRefused(t *testing.T) {
	d := newDriver(t)
	q := d.Queue()
	d.Publish(ringSize)
	expectBroken(t, q)
}

func TestAvailIndexJumps(t *testing.T) {
	for _, idx := range []uint16{ringSize + 1, math.MaxUint16, 0x8000} {
		d := newDriver(t)
		q := d.Queue()
		d.SetAvailIdx(idx)
		expectBroken(t, q)
	}
}

func TestIndexWraps(t *testing.T) {
	d := newDriver(t)
	d.Config.Next = math.MaxUint16
	q := d.Queue()
	d.SetDesc(5, 0x9000, 1, 0, 0)
	d.SetAvailIdx(math.MaxUint16)
	d.Publish(5)
	var c queue.Chain
	if ok, err := q.Pop(&c); !ok || err != nil || c.Head != 5 {
		t.Fatal(ok, err, c.Head)
	}
	if q.Next() != 0 {
		t.Fatal(q.Next())
	}
}

func TestUsedRingRewrittenByTheGuestIsIgnored(t *testing.T) {
	d := newDriver(t)
	q := d.Queue()
	var c queue.Chain
	d.Add([]byte("a"), 0)
	q.Pop(&c)
	copy(d.Bytes(d.Config.Used, 8), bytes.Repeat([]byte{0xff}, 8))
	q.Push(c.Head, 0)
	if got := d.Bytes(d.Config.Used+2, 2); got[0] != 1 || got[1] != 0 {
		t.Fatalf("used index is % x, want 1", got)
	}
	q.Push(c.Head, 0) // a second push of the same head must change nothing
	if got := d.Bytes(d.Config.Used+2, 2); got[0] != 1 {
		t.Fatalf("used index is % x after a double push", got)
	}
}

func TestSetUpIsChecked(t *testing.T) {
	mem := queuetest.Memory(t, 1<<20)
	good := queuetest.New(t, mem, 0x1000, ringSize, 0).Config
	cases := map[string]func(c *queue.Config){
		"size zero":            func(c *queue.Config) { c.Size = 0 },
		"size no power of two": func(c *queue.Config) { c.Size = 6 },
		"desc misaligned":      func(c *queue.Config) { c.Desc += 8 },
		"avail misaligned":     func(c *queue.Config) { c.Avail++ },
		"used misaligned":      func(c *queue.Config) { c.Used += 2 },
		"desc zero":            func(c *queue.Config) { c.Desc = 0 },
		"desc outside":         func(c *queue.Config) { c.Desc = 1 << 20 },
		"used end outside":     func(c *queue.Config) { c.Used = 1<<20 - 8 },
		"avail wraps":          func(c *queue.Config) { c.Avail = math.MaxUint64 - 1 },
		"overlap":              func(c *queue.Config) { c.Used = c.Desc },
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			c := good
			change(&c)
			if _, err := queue.New(mem, c); !errors.Is(err, queue.ErrBroken) {
				t.Fatalf("err = %v", err)
			}
		})
	}
}

func TestInterruptOnlyWhenAskedFor(t *testing.T) {
	d := newDriver(t)
	q := d.Queue()
	var c queue.Chain
	push := func() bool {
		d.Add([]byte("x"), 0)
		if ok, err := q.Pop(&c); !ok || err != nil {
			t.Fatal(ok, err)
		}
		q.Push(c.Head, 0)
		return q.NeedInterrupt()
	}
	if !push() { // used_event is 0: wanted at the first
		t.Fatal("no interrupt for the first buffer")
	}
	if push() { // the driver has not moved used_event
		t.Fatal("interrupt nobody asked for")
	}
	if q.NeedInterrupt() {
		t.Fatal("interrupt without a push")
	}
	d.Used()
	d.Used() // moves used_event to 2
	if !push() {
		t.Fatal("no interrupt after the driver asked again")
	}
}

func TestEnableKickSeesWhatWasAddedBefore(t *testing.T) {
	d := newDriver(t)
	q := d.Queue()
	if q.EnableKick() {
		t.Fatal("pending on an empty ring")
	}
	d.Add([]byte("x"), 0)
	if !q.EnableKick() {
		t.Fatal("buffer missed")
	}
}

// FuzzPop lets the fuzzer write the whole ring. Whatever it writes, Pop must
// return, and what it returns must lie in memory.
func FuzzPop(f *testing.F) {
	f.Add(make([]byte, 512), uint16(1))
	f.Fuzz(func(t *testing.T, ring []byte, avail uint16) {
		d := newDriver(t)
		q := d.Queue()
		copy(d.Bytes(0x1000, 0x4000), ring)
		d.SetAvailIdx(avail)
		var c queue.Chain
		for range 2 * ringSize {
			ok, err := q.Pop(&c)
			if err != nil || !ok {
				return
			}
			if len(c.Readable)+len(c.Writable) > ringSize {
				t.Fatalf("chain of %d", len(c.Readable)+len(c.Writable))
			}
			for _, b := range c.Writable {
				b[len(b)-1]++
			}
			q.Push(c.Head, 1)
			q.NeedInterrupt()
		}
	})
}
