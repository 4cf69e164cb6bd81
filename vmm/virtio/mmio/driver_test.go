package mmio

import (
	"encoding/binary"
	"sync"
	"testing"

	"github.com/microvm/microvm/vmm/guestmem"
	"github.com/microvm/microvm/vmm/virtio"
	"github.com/microvm/microvm/vmm/virtio/queue/queuetest"
)

// mock is a device that records what happens to it. One goroutine per queue
// waits for kicks, as real devices do.
type mock struct {
	sizes       []uint16
	activateErr error

	mu          sync.Mutex
	activations []virtio.Activation
	resets      int
	active      bool
	workers     sync.WaitGroup
	kicked      chan int
	config      [8]byte
}

func (m *mock) ID() virtio.DeviceID  { return 42 }
func (m *mock) Features() uint64     { return 1 << 3 }
func (m *mock) QueueSizes() []uint16 { return m.sizes }

func (m *mock) ReadConfig(offset uint32, p []byte) {
	clear(p)
	if offset < uint32(len(m.config)) {
		copy(p, m.config[offset:])
	}
}

func (m *mock) WriteConfig(offset uint32, p []byte) {
	if offset < uint32(len(m.config)) {
		copy(m.config[offset:], p)
	}
}

func (m *mock) Activate(a virtio.Activation) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.activations = append(m.activations, a)
	if m.activateErr != nil {
		return m.activateErr
	}
	m.active = true
	for i, q := range a.Queues {
		if q == nil {
			continue
		}
		m.workers.Go(func() {
			for q.Kick.Wait() {
				m.kicked <- i
			}
		})
	}
	return nil
}

func (m *mock) Reset() {
	m.mu.Lock()
	m.resets++
	if m.active {
		for _, q := range m.activations[len(m.activations)-1].Queues {
			if q != nil {
				q.Kick.Stop()
			}
		}
	}
	m.active = false
	m.mu.Unlock()
	m.workers.Wait()
}

func (m *mock) last() virtio.Activation {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.activations[len(m.activations)-1]
}

// driver is the guest's side of the registers.
type driver struct {
	t   testing.TB
	reg *Transport
	dev *mock
	mem *guestmem.Memory
	// crowded says that others use the registers too: what is refused then
	// can't be told from their accesses.
	crowded bool

	mu   sync.Mutex
	fail []error // what was reported
}

const ringSize = 8

// newDriver makes a transport of a device with two queues of ringSize.
func newDriver(t testing.TB) *driver {
	t.Helper()
	d := &driver{
		t: t, mem: queuetest.Memory(t, 1<<20),
		dev: &mock{sizes: []uint16{ringSize, ringSize}, kicked: make(chan int, 1000)},
	}
	var err error
	if d.reg, err = New(d.dev, d.mem, d.reported); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.reg.Close)
	return d
}

func (d *driver) reported(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail = append(d.fail, err)
}

func (d *driver) reports() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.fail)
}

// offset finds a register by its name in the specification.
func (d *driver) offset(name string) uint64 {
	for _, r := range registers {
		if r.name == name {
			return r.offset
		}
	}
	d.t.Fatalf("no register %s", name)
	return 0
}

func (d *driver) read(name string) uint32 {
	var p [4]byte
	d.reg.Read(d.offset(name), p[:])
	return binary.LittleEndian.Uint32(p[:])
}

// write says whether the write was accepted.
func (d *driver) write(name string, v uint32) bool {
	before := d.reg.Refused()
	d.reg.Write(d.offset(name), binary.LittleEndian.AppendUint32(nil, v))
	return d.reg.Refused() == before
}

// must writes what may not be refused.
func (d *driver) must(name string, v uint32) {
	d.t.Helper()
	if !d.write(name, v) && !d.crowded {
		d.t.Fatalf("%s = %#x was refused", name, v)
	}
}

// negotiate goes through section 3.1.1 up to FEATURES_OK.
func (d *driver) negotiate(features uint64) {
	d.t.Helper()
	d.must("Status", statusAcknowledge)
	d.must("Status", statusAcknowledge|statusDriver)
	d.features(features)
	d.must("Status", statusAcknowledge|statusDriver|statusFeaturesOK)
}

func (d *driver) features(features uint64) {
	d.t.Helper()
	for sel := range uint32(2) {
		d.must("DriverFeaturesSel", sel)
		d.must("DriverFeatures", uint32(features>>(32*sel)))
	}
}

// ring lays queue i out at its own address and fills its registers in.
func (d *driver) ring(i uint32) {
	d.t.Helper()
	q := queuetest.New(d.t, d.mem, 0x10000*uint64(i+1), ringSize, 0x1000).Config
	d.must("QueueSel", i)
	d.must("QueueNum", uint32(q.Size))
	for name, addr := range map[string]uint64{"QueueDesc": q.Desc, "QueueDriver": q.Avail, "QueueDevice": q.Used} {
		d.must(name+"Low", uint32(addr))
		d.must(name+"High", uint32(addr>>32))
	}
}

const running = statusAcknowledge | statusDriver | statusFeaturesOK | statusDriverOK

// start brings the device up with both queues.
func (d *driver) start() {
	d.t.Helper()
	d.negotiate(virtio.TransportFeatures)
	for i := range uint32(2) {
		d.ring(i)
		d.must("QueueReady", 1)
	}
	d.must("Status", running)
}
