package vhostuser

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/vmm/guestmem"
	"github.com/microvm/microvm/vmm/virtio"
	"github.com/microvm/microvm/vmm/virtio/queue"
	"github.com/microvm/microvm/vmm/virtio/queue/queuetest"
)

// userBase is added to guest addresses to make addresses of the front end.
const userBase = 0x7f00_0000_0000

const (
	ringSize   = 16
	deviceBit  = 1 << 5
	allAcked   = virtio.TransportFeatures | featureProtocol | deviceBit
	memorySize = 1 << 20
)

// echo is a device that answers each buffer with what it read, on every queue
// it gets.
type echo struct {
	queues int

	mu          sync.Mutex
	activations []virtio.Activation
	resetCount  int
	config      []byte
	refuse      error

	workers sync.WaitGroup
}

func (d *echo) ID() virtio.DeviceID { return 42 }
func (d *echo) Features() uint64    { return deviceBit }
func (d *echo) QueueSizes() []uint16 {
	sizes := make([]uint16, d.queues)
	for i := range sizes {
		sizes[i] = ringSize
	}
	return sizes
}

func (d *echo) ReadConfig(off uint32, p []byte) {
	clear(p)
	if int(off) < len(d.config) {
		copy(p, d.config[off:])
	}
}

func (d *echo) WriteConfig(off uint32, p []byte) {
	if int(off) < len(d.config) {
		copy(d.config[off:], p)
	}
}

func (d *echo) Activate(a virtio.Activation) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.activations = append(d.activations, a)
	if d.refuse != nil {
		return d.refuse
	}
	for _, q := range a.Queues {
		if q != nil {
			d.workers.Go(func() {
				if err := q.Run(func() error { return drain(q) }); err != nil {
					a.Fail(err)
				}
			})
		}
	}
	return nil
}

func drain(q *virtio.Queue) error {
	var c queue.Chain
	for {
		ok, err := q.Pop(&c)
		if !ok || err != nil {
			return err
		}
		p := make([]byte, c.ReadableLen)
		c.Read(p, 0)
		q.Push(c.Head, uint32(c.Write(p, 0)))
		q.Notify()
	}
}

func (d *echo) Reset() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.resetCount++
	if n := len(d.activations); n > 0 {
		for _, q := range d.activations[n-1].Queues {
			if q != nil {
				q.Kick.Stop()
			}
		}
	}
	d.workers.Wait()
}

func (d *echo) setRefuse(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refuse = err
}

func (d *echo) resets() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.resetCount
}

// active returns how often the device was activated and the last activation.
func (d *echo) active() (int, virtio.Activation) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := len(d.activations)
	if n == 0 {
		return 0, virtio.Activation{}
	}
	return n, d.activations[n-1]
}

// frontend is the other end of the protocol.
type frontend struct {
	t      *testing.T
	c      *net.UnixConn
	dev    *echo
	failed chan error
	served chan error
	mem    *guestmem.Memory
	rings  []*queuetest.Driver
	kicks  []*virtio.EventFD
	calls  []*virtio.EventFD
}

// connect starts a server with an echo device of n queues.
func connect(t *testing.T, n int) *frontend {
	t.Helper()
	return connectWith(t, n, Options{})
}

// connectWith is connect to a server with other options than usual.
func connectWith(t *testing.T, n int, options Options) *frontend {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	near := os.NewFile(uintptr(fds[0]), "front end")
	c, err := net.FileConn(near)
	near.Close()
	if err != nil {
		t.Fatal(err)
	}
	f := &frontend{
		t: t, c: c.(*net.UnixConn), dev: &echo{queues: n, config: []byte("0123456789")},
		failed: make(chan error, 64), served: make(chan error, 1),
	}
	f.mem = queuetest.Memory(t, memorySize)
	options.Fail = func(err error) { f.failed <- err }
	s, err := New(os.NewFile(uintptr(fds[1]), "back end"), f.dev, options)
	if err != nil {
		t.Fatal(err)
	}
	go func() { f.served <- s.Serve() }()
	t.Cleanup(f.hangUp)
	for i := range n {
		f.rings = append(f.rings, queuetest.New(t, f.mem, uint64(i+1)*0x10000, ringSize, 0x4000))
		f.kicks = append(f.kicks, eventFD(t))
		f.calls = append(f.calls, eventFD(t))
	}
	return f
}

func eventFD(t *testing.T) *virtio.EventFD {
	t.Helper()
	e, err := virtio.NewEventFD()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// hangUp closes the connection and waits for the server.
func (f *frontend) hangUp() {
	if f.c == nil {
		return
	}
	f.c.Close()
	f.c = nil
	if err := <-f.served; err != nil {
		f.t.Errorf("serve: %v", err)
	}
}

// expectBroken waits until the server gives up because of what was sent.
func (f *frontend) expectBroken() {
	f.t.Helper()
	err := <-f.served
	if !errors.Is(err, ErrProtocol) {
		f.t.Errorf("serve: %v, want ErrProtocol", err)
	}
	f.c.Close()
	f.c = nil
}

func encode(r request, flags uint32, payload []byte) []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(r))
	b = binary.NativeEndian.AppendUint32(b, flags|version)
	b = binary.NativeEndian.AppendUint32(b, uint32(len(payload)))
	return append(b, payload...)
}

func (f *frontend) write(b []byte, fds ...int) {
	f.t.Helper()
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	if _, _, err := f.c.WriteMsgUnix(b, oob, nil); err != nil {
		f.t.Fatal(err)
	}
}

// send sends a request that has no reply of its own.
func (f *frontend) send(r request, payload []byte, fds ...int) {
	f.t.Helper()
	f.write(encode(r, 0, payload), fds...)
}

// ask sends a request and returns the payload of its reply.
func (f *frontend) ask(r request, payload []byte) []byte {
	f.t.Helper()
	f.send(r, payload)
	return f.reply(r)
}

func (f *frontend) reply(r request) []byte {
	f.t.Helper()
	head := make([]byte, headerSize)
	if _, err := io.ReadFull(f.c, head); err != nil {
		f.t.Fatalf("read reply to %d: %v", r, err)
	}
	if got := binary.NativeEndian.Uint32(head); got != uint32(r) {
		f.t.Fatalf("reply to %d, want %d", got, r)
	}
	if flags := binary.NativeEndian.Uint32(head[4:]); flags != version|flagReply {
		f.t.Fatalf("reply flags %#x", flags)
	}
	p := make([]byte, binary.NativeEndian.Uint32(head[8:]))
	if _, err := io.ReadFull(f.c, p); err != nil {
		f.t.Fatal(err)
	}
	return p
}

// sync returns when everything sent was handled.
func (f *frontend) sync() {
	f.t.Helper()
	f.ask(getQueueNum, nil)
}

func u64(v uint64) []byte { return encodeU64(v) }

func state(index, num uint32) []byte { return vringState{index, num}.encode() }

func encodeTable(regions ...memRegion) []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(len(regions)))
	b = binary.NativeEndian.AppendUint32(b, 0)
	for _, r := range regions {
		for _, v := range []uint64{r.guest, r.size, r.user, r.offset} {
			b = binary.NativeEndian.AppendUint64(b, v)
		}
	}
	return b
}

func (f *frontend) wholeMemory() memRegion {
	return memRegion{guest: 0, size: memorySize, user: userBase}
}

func (f *frontend) memFD() int { return int(f.mem.Regions()[0].File.Fd()) }

// negotiate does what comes before the rings.
func (f *frontend) negotiate() {
	f.send(setOwner, nil)
	f.send(setProtocolFeatures, u64(protocolMQ|protocolReplyAck|protocolConfig))
	f.send(setFeatures, u64(allAcked))
	f.send(setMemTable, encodeTable(f.wholeMemory()), f.memFD())
}

func encodeAddr(i int, c queue.Config) []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(i))
	b = binary.NativeEndian.AppendUint32(b, 0)
	for _, v := range []uint64{c.Desc, c.Used, c.Avail} {
		b = binary.NativeEndian.AppendUint64(b, v+userBase)
	}
	return binary.NativeEndian.AppendUint64(b, 0)
}

// start starts ring i at the given index, in QEMU's order of messages.
func (f *frontend) start(i int, base uint32) {
	f.t.Helper()
	n := uint32(i)
	f.send(setVringCall, u64(uint64(i)), f.calls[i].FD())
	f.send(setVringNum, state(n, ringSize))
	f.send(setVringBase, state(n, base))
	f.send(setVringAddr, encodeAddr(i, f.rings[i].Config))
	f.send(setVringKick, u64(uint64(i)), f.kicks[i].FD())
}

func (f *frontend) enable(i int, on uint32) { f.send(setVringEnable, state(uint32(i), on)) }

// up brings all rings up.
func (f *frontend) up() {
	f.t.Helper()
	f.negotiate()
	for i := range f.rings {
		f.start(i, 0)
	}
	for i := range f.rings {
		f.enable(i, 1)
	}
	f.sync()
}

// echo sends text through ring i and checks what comes back.
func (f *frontend) echo(i int, text string) {
	f.t.Helper()
	d := f.rings[i]
	d.FreeAll()
	b := d.Add([]byte(text), len(text))
	f.kicks[i].Ring()
	if head, n := d.WaitUsed(); head != b.Head || string(b.In[:n]) != text {
		f.t.Fatalf("ring %d: head %d, %q; want head %d, %q", i, head, b.In[:n], b.Head, text)
	}
}

// ringConfig is a ring that lies well in memory.
func ringConfig() queue.Config {
	return queue.Config{Size: ringSize, Desc: 0x1000, Avail: 0x2000, Used: 0x3000}
}
