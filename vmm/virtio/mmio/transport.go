package mmio

import (
	"encoding/binary"
	"sync"
	"sync/atomic"

	"github.com/microvm/microvm/vmm/guestmem"
	"github.com/microvm/microvm/vmm/virtio"
	"github.com/microvm/microvm/vmm/virtio/queue"
)

// Bits of InterruptStatus (section 4.2.2).
const (
	interruptUsed   = 1 << 0 // a device has used a buffer
	interruptConfig = 1 << 1 // configuration or status has changed
)

// Transport is one virtio-mmio device as the guest sees it. It implements
// bus.Device over Size bytes.
type Transport struct {
	dev      virtio.Device
	mem      *guestmem.Memory
	features uint64 // offered
	irq      *virtio.EventFD
	report   func(error)

	changed    atomic.Bool // the driver was not told yet that configuration has
	generation atomic.Uint32
	refused    atomic.Uint64

	// mu guards all down to faultMu.
	mu             sync.Mutex
	status         uint32 // without statusNeedsReset
	deviceSel      uint32
	driverSel      uint32
	queueSel       uint32
	driverFeatures uint64
	queues         []setup
	closed         bool

	// faultMu guards the fault of the present activation.
	faultMu sync.Mutex
	epoch   uint64 // counts activations and resets
	broken  bool   // DEVICE_NEEDS_RESET
}

// setup is a queue as the driver has described it so far.
type setup struct {
	max                  uint16
	num                  uint32
	desc, driver, device uint64
	kick                 *virtio.EventFD
	ring                 *queue.Queue // checked; nil until QueueReady
}

// New makes a transport for dev on mem. report (which may be nil) is told of
// faults, from any goroutine; the guest decides how often.
func New(dev virtio.Device, mem *guestmem.Memory, report func(error)) (*Transport, error) {
	if report == nil {
		report = func(error) {}
	}
	irq, err := virtio.NewEventFD()
	if err != nil {
		return nil, err
	}
	t := &Transport{
		dev: dev, mem: mem, irq: irq, report: report,
		features: dev.Features() | virtio.TransportFeatures,
	}
	for _, size := range dev.QueueSizes() {
		kick, err := virtio.NewEventFD()
		if err != nil {
			t.Close()
			return nil, err
		}
		t.queues = append(t.queues, setup{max: size, kick: kick})
	}
	return t, nil
}

// Interrupt is the doorbell that the transport rings for an edge on the
// device's interrupt line. It stays the transport's.
func (t *Transport) Interrupt() *virtio.EventFD { return t.irq }

// NotifyOffset is where in the page the driver writes the index of a queue to
// kick it.
const NotifyOffset = offsetNotify

// Kicks are the doorbells of the queues by index. A VMM may ring one itself
// when the driver writes the index at NotifyOffset, and then need not pass the
// write on. They stay the transport's.
func (t *Transport) Kicks() []*virtio.EventFD {
	kicks := make([]*virtio.EventFD, len(t.queues))
	for i := range t.queues {
		kicks[i] = t.queues[i].kick
	}
	return kicks
}

// Refused is how many accesses were against the rules.
func (t *Transport) Refused() uint64 { return t.refused.Load() }

// Read implements bus.Device. Registers answer to aligned accesses of 4 bytes
// only, others read as zero; configuration space takes any width.
func (t *Transport) Read(offset uint64, p []byte) {
	clear(p)
	if offset >= offsetConfig {
		t.dev.ReadConfig(uint32(offset-offsetConfig), p)
		return
	}
	r := find(offset, len(p))
	if r == nil || r.read == nil {
		t.refused.Add(1)
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	binary.LittleEndian.PutUint32(p, r.read(t))
}

// Write implements bus.Device. What has no effect is counted.
func (t *Transport) Write(offset uint64, p []byte) {
	if offset >= offsetConfig {
		t.dev.WriteConfig(uint32(offset-offsetConfig), p)
		return
	}
	r := find(offset, len(p))
	if r == nil || r.write == nil {
		t.refused.Add(1)
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || !r.write(t, binary.LittleEndian.Uint32(p)) {
		t.refused.Add(1)
	}
}

func find(offset uint64, width int) *register {
	if width != 4 || offset%4 != 0 || offset >= offsetConfig {
		return nil
	}
	return registerAt[offset/4]
}

// A write of AckUsed at AckOffset has no effect: a VMM may swallow it, as it
// follows nearly every interrupt.
const (
	AckOffset = 0x064
	AckUsed   = interruptUsed
)

// interruptStatus always says that a buffer may have been used, at which the
// driver looks into its rings. So there is nothing to acknowledge of it.
func (t *Transport) interruptStatus() uint32 {
	if t.changed.Load() {
		return interruptUsed | interruptConfig
	}
	return interruptUsed
}

// acknowledge clears interrupts that the driver has seen.
func (t *Transport) acknowledge(v uint32) bool {
	if v&interruptConfig != 0 {
		t.changed.Store(false)
	}
	return v&^(interruptUsed|interruptConfig) == 0
}

// tellChange interrupts the driver for a change of configuration or status.
func (t *Transport) tellChange() {
	t.changed.Store(true)
	t.irq.Ring()
}

// ConfigChanged tells the driver that configuration space has changed.
func (t *Transport) ConfigChanged() {
	t.generation.Add(1)
	t.tellChange()
}

// Close stops the device and gives the doorbells back. The VM that they are
// registered with must be gone or stopped; later accesses have no effect.
func (t *Transport) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	t.reset()
	t.closed = true
	for i := range t.queues {
		t.queues[i].kick.Close()
	}
	t.irq.Close()
}
