package vsock

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/microvm/microvm/vmm/virtio"
)

// featureStream is VIRTIO_VSOCK_F_STREAM (section 5.10.3).
const featureStream = 1 << 0

// queueSize is the largest size of each ring. Linux fills the receive ring
// with one 4 KiB buffer per descriptor.
const queueSize = 256

// defaultConnectTimeout is Config.ConnectTimeout where that is zero.
const defaultConnectTimeout = 10 * time.Second

// Queues in order of their index (section 5.10.2). The event queue carries
// only resets of the transport, which this device has none of.
const (
	queueRx = iota
	queueTx
	queueEvent
	queueCount
)

// Errors of Connect.
var (
	// ErrInactive says that no driver runs the device.
	ErrInactive = errors.New("guest's vsock driver is not running")
	// ErrTooMany says that there are maxStreams streams already.
	ErrTooMany = errors.New("too many streams")
)

// Config is what a device is made of.
type Config struct {
	// GuestCID is the guest's address, 3 or more.
	GuestCID uint64
	// Dial gives the host's side of a stream that the guest opens to a host
	// port; an error refuses the guest. The device owns what it returns. It
	// is called by one goroutine at a time and must not block. Nil refuses
	// every port.
	Dial func(port uint32) (*net.UnixConn, error)
	// ConnectTimeout is how long the guest may take to answer a request for
	// a stream; 0 is 10 seconds.
	ConnectTimeout time.Duration
	// Warn is told the first time the guest breaks each rule after an
	// activation; it must not block. Nil ignores it.
	Warn func(error)
}

// Device is a virtio socket device. Its methods that are not virtio.Device's
// may be called at any time from any goroutine.
type Device struct {
	config Config
	faults faults

	// mu guards all below.
	mu        sync.Mutex
	closed    bool
	session   *session // nil when not active
	listeners map[*net.UnixListener]struct{}
	greeting  map[*net.UnixConn]struct{} // clients that have yet to send their line

	// serving counts Serve and the goroutines it starts.
	serving sync.WaitGroup
}

var _ virtio.Device = (*Device)(nil)

// New makes a device, which is not active yet.
func New(c Config) *Device {
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = defaultConnectTimeout
	}
	return &Device{
		config:    c,
		listeners: make(map[*net.UnixListener]struct{}),
		greeting:  make(map[*net.UnixConn]struct{}),
	}
}

// ID implements virtio.Device.
func (d *Device) ID() virtio.DeviceID { return virtio.DeviceVsock }

// Features implements virtio.Device.
func (d *Device) Features() uint64 { return featureStream }

// QueueSizes implements virtio.Device.
func (d *Device) QueueSizes() []uint16 {
	return []uint16{queueRx: queueSize, queueTx: queueSize, queueEvent: queueSize}
}

// ReadConfig implements virtio.Device: the space is the guest's address
// (section 5.10.4).
func (d *Device) ReadConfig(offset uint32, p []byte) {
	var space [8]byte
	binary.LittleEndian.PutUint64(space[:], d.config.GuestCID)
	virtio.ReadSpace(space[:], offset, p)
}

// WriteConfig implements virtio.Device: the space is read-only.
func (d *Device) WriteConfig(uint32, []byte) {}

// Activate implements virtio.Device. The event queue may be missing.
func (d *Device) Activate(a virtio.Activation) error {
	rx, tx := a.Queue(queueRx), a.Queue(queueTx)
	if rx == nil || tx == nil {
		return fmt.Errorf("activate vsock without rx and tx queue: %w", virtio.ErrDevice)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return fmt.Errorf("activate vsock: %w", net.ErrClosed)
	}
	if d.session != nil {
		return errors.New("activate vsock: active already")
	}
	s, err := newSession(d, rx, tx, a.Fail)
	if err != nil {
		return fmt.Errorf("activate vsock: %w", err)
	}
	d.session = s
	s.start()
	return nil
}

// Reset implements virtio.Device: every stream ends. What the guest has sent
// and a socket has not taken is lost.
func (d *Device) Reset() {
	d.mu.Lock()
	s := d.session
	d.session = nil
	d.mu.Unlock()
	if s != nil {
		s.stop()
	}
}

// Connect joins c, which it takes over even when it fails, to the given port
// of the guest. Should the guest refuse later, c is closed.
func (d *Device) Connect(port uint32, c *net.UnixConn) error {
	if err := d.call(call{port: port, conn: c}); err != nil {
		c.Close()
		return fmt.Errorf("connect to guest port %d: %w", port, err)
	}
	return nil
}

// call hands c to the session; on error c.conn stays the caller's.
func (d *Device) call(c call) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.session == nil || !d.session.call(c) {
		return ErrInactive
	}
	return nil
}

// Close ends every stream and every Serve and waits for them. The device must
// not be activated again.
func (d *Device) Close() error {
	d.mu.Lock()
	d.closed = true
	for l := range d.listeners {
		l.Close()
	}
	for c := range d.greeting {
		c.Close()
	}
	d.mu.Unlock()
	d.Reset()
	d.serving.Wait()
	return nil
}

// Faults counts, by rule, how often guests broke it.
func (d *Device) Faults() map[string]uint64 { return d.faults.counts() }
