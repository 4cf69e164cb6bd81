// Package queue implements the device's side of a split virtqueue (virtio 1.2,
// section 2.7) on guest memory.
//
// Nothing the driver writes is believed: indices, lengths and flags are copied
// once and checked before use, and a ring that breaks the rules yields an
// error that wraps ErrBroken, after which the device must stop using it.
//
// Concurrency: one goroutine at a time calls Pop, EnableKick and DisableKick;
// Push and NeedInterrupt may be called from any number of goroutines.
package queue

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/microvm/microvm/vmm/guestmem"
)

// ErrBroken is wrapped by every error that tells of a ring against the rules.
var ErrBroken = errors.New("broken virtqueue")

// MaxSize is the largest size of a split ring (section 2.7).
const MaxSize = 32768

// Ring layout and flags (section 2.7.5 to 2.7.8).
const (
	descSize      = 16
	descFNext     = 1 // VIRTQ_DESC_F_NEXT
	descFWrite    = 2 // VIRTQ_DESC_F_WRITE
	descFIndirect = 4 // VIRTQ_DESC_F_INDIRECT

	availFNoInterrupt = 1 // VIRTQ_AVAIL_F_NO_INTERRUPT
	usedFNoNotify     = 1 // VIRTQ_USED_F_NO_NOTIFY

	ringFlags  = 0
	ringIdx    = 2
	ringHeader = 4
	usedElem   = 8
)

// Config describes a ring as the driver set it up.
type Config struct {
	// Size is the number of descriptors, a power of two up to MaxSize.
	Size uint16
	// Desc, Avail and Used are the guest physical addresses of the
	// descriptor table, the driver area and the device area, aligned to 16, 2
	// and 4 bytes.
	Desc, Avail, Used uint64
	// EventIdx says that VIRTIO_F_EVENT_IDX was negotiated.
	EventIdx bool
	// Indirect says that VIRTIO_F_INDIRECT_DESC was negotiated.
	Indirect bool
	// Next is the ring index to go on from: 0 for a fresh ring.
	Next uint16
}

// Queue is one ring.
type Queue struct {
	mem      *guestmem.Memory
	size     uint16
	desc     []byte
	avail    []byte
	used     []byte
	eventIdx bool
	indirect bool

	// next is the avail index to Pop from; owned by the popping goroutine.
	next uint16

	// mu guards all below.
	mu        sync.Mutex
	usedIdx   uint16
	signalled uint16 // usedIdx at the last NeedInterrupt
	inFlight  []bool // by head: popped and not yet pushed
}

// New checks c and returns the ring. It fails with ErrBroken when the size is
// not allowed or an area is misaligned, outside of memory, or overlaps
// another.
func New(mem *guestmem.Memory, c Config) (*Queue, error) {
	if c.Size == 0 || c.Size > MaxSize || c.Size&(c.Size-1) != 0 {
		return nil, fmt.Errorf("%w: size %d", ErrBroken, c.Size)
	}
	n := uint64(c.Size)
	areas := []area{
		{"descriptor table", c.Desc, 16, descSize * n},
		{"driver area", c.Avail, 2, ringHeader + 2*n + 2},
		{"device area", c.Used, 4, ringHeader + usedElem*n + 2},
	}
	var mapped [3][]byte
	for i, a := range areas {
		b, err := a.slice(mem)
		if err != nil {
			return nil, err
		}
		mapped[i] = b
		for _, other := range areas[:i] {
			if a.overlaps(other) {
				return nil, fmt.Errorf("%w: %s overlaps %s", ErrBroken, a.name, other.name)
			}
		}
	}
	return &Queue{
		mem: mem, size: c.Size, desc: mapped[0], avail: mapped[1], used: mapped[2],
		eventIdx: c.EventIdx, indirect: c.Indirect,
		next: c.Next, usedIdx: c.Next, signalled: c.Next,
		inFlight: make([]bool, c.Size),
	}, nil
}

type area struct {
	name              string
	addr, align, size uint64
}

func (a area) slice(mem *guestmem.Memory) ([]byte, error) {
	if a.addr == 0 || a.addr%a.align != 0 {
		return nil, fmt.Errorf("%w: %s at %#x, want non-zero and aligned to %d", ErrBroken, a.name, a.addr, a.align)
	}
	b, err := mem.Slice(a.addr, a.size)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrBroken, a.name, err)
	}
	return b, nil
}

// overlaps relies on both areas being inside memory, so that sums don't wrap.
func (a area) overlaps(b area) bool {
	return a.addr < b.addr+b.size && b.addr < a.addr+a.size
}

// Size is the number of descriptors.
func (q *Queue) Size() uint16 { return q.size }

// Next is the ring index of the next buffer to Pop, to hand over to a later
// Queue on the same ring.
func (q *Queue) Next() uint16 { return q.next }

// Empty says that the driver has added no buffer that was not popped.
func (q *Queue) Empty() bool { return load16(at(q.avail, ringIdx)) == q.next }

// Pop takes the next buffer into c, whose slices it reuses. It returns false
// when there is none, and an error that wraps ErrBroken when the ring or the
// chain is against the rules.
func (q *Queue) Pop(c *Chain) (bool, error) {
	pending := load16(at(q.avail, ringIdx)) - q.next
	if pending == 0 {
		return false, nil
	}
	if pending > q.size {
		return false, fmt.Errorf("%w: avail index is %d ahead of a ring of %d", ErrBroken, pending, q.size)
	}
	slot := int(q.next & (q.size - 1))
	head := load16(at(q.avail, ringHeader+2*slot))
	if err := q.claim(head); err != nil {
		return false, err
	}
	if err := q.walk(head, c); err != nil {
		return false, err
	}
	q.next++
	return true, nil
}

func (q *Queue) claim(head uint16) error {
	if head >= q.size {
		return fmt.Errorf("%w: head %d in a ring of %d", ErrBroken, head, q.size)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.inFlight[head] {
		return fmt.Errorf("%w: head %d is in flight already", ErrBroken, head)
	}
	q.inFlight[head] = true
	return nil
}

// Push gives the buffer with the given head back to the driver and tells it
// that the first written bytes of its writable part were set. Follow up with
// NeedInterrupt, once for any number of pushes.
func (q *Queue) Push(head uint16, written uint32) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.put(Used{head, written})
	store16(at(q.used, ringIdx), q.usedIdx)
}

// Used is a buffer to give back, as Push takes it.
type Used struct {
	Head    uint16
	Written uint32
}

// PushAll is Push for several buffers, which the driver sees at once.
func (q *Queue) PushAll(all []Used) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, u := range all {
		q.put(u)
	}
	store16(at(q.used, ringIdx), q.usedIdx)
}

// put writes u behind what the driver sees.
func (q *Queue) put(u Used) {
	if u.Head >= q.size || !q.inFlight[u.Head] {
		return // a device's double Push must not reach the driver
	}
	q.inFlight[u.Head] = false
	off := ringHeader + usedElem*int(q.usedIdx&(q.size-1))
	binary.LittleEndian.PutUint32(q.used[off:], uint32(u.Head))
	binary.LittleEndian.PutUint32(q.used[off+4:], u.Written)
	q.usedIdx++
}

// NeedInterrupt says whether the driver wants an interrupt for what was pushed
// since the last call (section 2.7.7).
func (q *Queue) NeedInterrupt() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	old := q.signalled
	if old == q.usedIdx {
		return false
	}
	q.signalled = q.usedIdx
	fence() // used.idx must be visible before used_event is read
	if !q.eventIdx {
		return load16(at(q.avail, ringFlags))&availFNoInterrupt == 0
	}
	event := load16(at(q.avail, ringHeader+2*int(q.size)))
	return q.usedIdx-event-1 < q.usedIdx-old
}

// EnableKick asks the driver to kick when it adds a buffer, and says whether
// one was added already.
func (q *Queue) EnableKick() (pending bool) {
	if q.eventIdx {
		store16(at(q.used, ringHeader+usedElem*int(q.size)), q.next)
	} else {
		store16(at(q.used, ringFlags), 0)
	}
	fence() // the request must be visible before avail.idx is read again
	return !q.Empty()
}

// DisableKick asks the driver not to kick. With EVENT_IDX there is nothing to
// do: the event index stays behind, where the driver no longer passes it.
func (q *Queue) DisableKick() {
	if !q.eventIdx {
		store16(at(q.used, ringFlags), usedFNoNotify)
	}
}
