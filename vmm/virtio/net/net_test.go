package net

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/vmm/virtio"
	"github.com/microvm/microvm/vmm/virtio/queue"
	"github.com/microvm/microvm/vmm/virtio/queue/queuetest"
)

// guest is a driver with both rings.
type guest struct {
	t      testing.TB
	dev    *Device
	rx, tx *queuetest.Driver
	failed chan error
	warned chan error
}

const guestMemory = 8 << 20

func newGuest(t testing.TB, tap bool) *guest {
	t.Helper()
	mem := queuetest.Memory(t, guestMemory)
	g := &guest{
		t: t, failed: make(chan error, 8), warned: make(chan error, 8),
		rx: queuetest.New(t, mem, 0x1000, queueSize, guestMemory/4),
		tx: queuetest.New(t, mem, guestMemory/2, queueSize, guestMemory/4),
	}
	g.dev = New(Config{MAC: [6]byte{2, 0, 0, 0, 0, 1}, Tap: tap, Warn: func(err error) { g.warned <- err }})
	t.Cleanup(func() {
		g.dev.Reset()
		g.dev.Detach()
	})
	return g
}

func (g *guest) activate() { g.activateWith(g.rx.Activated()) }

func (g *guest) activateWith(rx *virtio.Queue) {
	g.t.Helper()
	err := g.dev.Activate(virtio.Activation{
		Memory: g.rx.Mem, Features: virtio.TransportFeatures | g.dev.Features(),
		Queues: []*virtio.Queue{rx, g.tx.Activated()},
		Fail:   func(err error) { g.failed <- err },
	})
	if err != nil {
		g.t.Fatal(err)
	}
}

// attachFD gives the device a file, and fd up.
func (g *guest) attachFD(fd int, froms ...Address) {
	g.t.Helper()
	f := os.NewFile(uintptr(fd), "guest")
	defer f.Close()
	if err := g.dev.Attach([]*os.File{f}, froms...); err != nil {
		g.t.Fatal(err)
	}
}

// attach gives the device one end of a datagram socket and returns the other.
func (g *guest) attach() *os.File {
	g.t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		g.t.Fatal(err)
	}
	ours := os.NewFile(uintptr(fds[1]), "host")
	g.t.Cleanup(func() { ours.Close() })
	g.attachFD(fds[0])
	return ours
}

func frame(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i * 7)
	}
	return p
}

func (g *guest) send(header, frame []byte) {
	g.tx.Add(append(bytes.Clone(header), frame...), 0)
	g.tx.Kick()
	g.tx.WaitUsed()
}

func read(t *testing.T, f *os.File) []byte {
	t.Helper()
	p := make([]byte, 1<<17)
	f.SetReadDeadline(time.Now().Add(queuetest.Patience))
	n, err := f.Read(p)
	if err != nil {
		t.Fatal(err)
	}
	return p[:n]
}

var noHeader = make([]byte, headerSize)

func TestFramesAreSent(t *testing.T) {
	g := newGuest(t, false)
	g.activate()
	host := g.attach()
	for _, n := range []int{ethernetHeader, 60, 1514, 9014, maxFrame} {
		g.send(noHeader, frame(n))
		if got := read(t, host); !bytes.Equal(got, frame(n)) {
			t.Errorf("sent %d bytes, %d arrived", n, len(got))
		}
		g.tx.FreeAll()
	}
	if s := g.dev.Stats(); s.Sent != 5 || s.SentDropped != 0 || s.SentBytes != ethernetHeader+60+1514+9014+maxFrame {
		t.Errorf("stats %+v", s)
	}
}

func TestBadFramesAreDropped(t *testing.T) {
	g := newGuest(t, false)
	g.activate()
	host := g.attach()
	checksum := append([]byte{1}, noHeader[1:]...)
	segments := append([]byte{0, 1}, noHeader[2:]...)
	g.send(nil, frame(3)) // shorter than a header
	g.send(noHeader, frame(ethernetHeader-1))
	g.send(noHeader, frame(maxFrame+1))
	g.send(checksum, frame(100))
	g.send(segments, frame(100))
	g.send(noHeader, frame(100))
	if got := read(t, host); len(got) != 100 {
		t.Errorf("%d bytes arrived", len(got))
	}
	if s := g.dev.Stats(); s.Sent != 1 || s.SentDropped != 5 {
		t.Errorf("stats %+v", s)
	}
}

func TestFramesAreReceived(t *testing.T) {
	const buffer = 1536
	g := newGuest(t, false)
	var buffers []queuetest.Buffer
	for range queueSize / 2 {
		buffers = append(buffers, g.rx.Add(nil, buffer))
	}
	host := g.attach()
	g.activate()
	g.rx.Kick()
	next := 0
	for _, n := range []int{60, 1514, 1525, 9014, 65000} {
		if _, err := host.Write(frame(n)); err != nil {
			t.Fatal(err)
		}
		var got []byte
		want := (headerSize + n + buffer - 1) / buffer
		for i := range want {
			head, written := g.rx.WaitUsed()
			b := buffers[next]
			next++
			if head != b.Head {
				t.Fatalf("head %d, want %d", head, b.Head)
			}
			part := b.In[:written]
			if i == 0 {
				if count := binary.LittleEndian.Uint16(part[numBuffersOffset:]); int(count) != want || !bytes.Equal(part[:numBuffersOffset], noHeader[:numBuffersOffset]) {
					t.Errorf("header % x, want %d buffers", part[:headerSize], want)
				}
				part = part[headerSize:]
			}
			got = append(got, part...)
		}
		if !bytes.Equal(got, frame(n)) {
			t.Errorf("wrote %d bytes, %d arrived", n, len(got))
		}
	}
	if s := g.dev.Stats(); s.Received != 5 {
		t.Errorf("stats %+v", s)
	}
}

func TestFewBuffersAreUsedToTheLast(t *testing.T) {
	g := newGuest(t, false)
	host := g.attach()
	g.activate()
	for i := range queueSize {
		g.rx.Add(nil, 128) // too little for the largest frame in all
		if i == 0 {
			if _, err := host.Write(frame(60)); err != nil {
				t.Fatal(err)
			}
		}
	}
	g.rx.Kick()
	g.rx.WaitUsed()
}

// TestOtherEndIsGone has the network's process end before its guest.
func TestOtherEndIsGone(t *testing.T) {
	g := newGuest(t, false)
	for range queueSize / 2 {
		g.rx.Add(nil, 1536)
	}
	g.activate()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	g.attachFD(fds[0])
	unix.Close(fds[1])
	select {
	case err := <-g.warned:
		if !errors.Is(err, io.EOF) {
			t.Error(err)
		}
	case <-time.After(queuetest.Patience):
		t.Error("nobody is told")
	}
}

func TestDetachAndAttach(t *testing.T) {
	g := newGuest(t, false)
	g.activate()
	for range 20 {
		first := g.attach()
		g.send(noHeader, frame(100))
		read(t, first)
		g.tx.FreeAll()
		if err := g.dev.Detach(); err != nil {
			t.Fatal(err)
		}
		if _, err := first.Write(frame(60)); !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, unix.ENOTCONN) && !errors.Is(err, unix.EPIPE) {
			t.Fatalf("write after detach: %v", err)
		}
	}
}

func TestResetGivesBuffersBack(t *testing.T) {
	g := newGuest(t, false)
	for range 4 {
		g.rx.Add(nil, 2048)
	}
	host := g.attach()
	g.activate()
	g.send(noHeader, frame(100)) // the pump runs
	read(t, host)
	g.dev.Reset()
	g.dev.Reset()
	select {
	case err := <-g.failed:
		t.Error(err)
	case err := <-g.warned:
		t.Error(err)
	default:
	}
}

func TestBrokenRingsFailTheDevice(t *testing.T) {
	for name, ring := range map[string]func(*guest) *queuetest.Driver{
		"rx": func(g *guest) *queuetest.Driver { return g.rx },
		"tx": func(g *guest) *queuetest.Driver { return g.tx },
	} {
		t.Run(name, func(t *testing.T) {
			g := newGuest(t, false)
			g.attach()
			drv := ring(g)
			drv.SetDesc(0, 0, 1, 0, 0)
			drv.Publish(0)
			g.activate()
			drv.Kick()
			if err := <-g.failed; !errors.Is(err, queue.ErrBroken) {
				t.Fatal(err)
			}
		})
	}
}

func TestTooSmallReceiveBufferFailsTheDevice(t *testing.T) {
	g := newGuest(t, false)
	g.attach()
	g.rx.Add(nil, headerSize)
	g.activate()
	if err := <-g.failed; !errors.Is(err, virtio.ErrDevice) {
		t.Fatal(err)
	}
}

func TestWithoutQueuesItStandsStill(t *testing.T) {
	g := newGuest(t, false)
	g.attach()
	if err := g.dev.Activate(virtio.Activation{Memory: g.rx.Mem, Queues: []*virtio.Queue{g.rx.Activated()}}); err != nil {
		t.Fatal(err)
	}
	g.dev.Reset()
	g.activate()
}

// TestRates moves three frames at a rate of ten a second, by their number and by
// their size.
func TestRates(t *testing.T) {
	const size = 1000
	for name, rate := range map[string]Rate{"frames": {Frames: 10}, "bits": {Bits: 10 * 8 * size, Frames: 1000}} {
		t.Run(name, func(t *testing.T) {
			g := newGuest(t, false)
			g.dev.config.Receive, g.dev.config.Send = rate, rate
			for range queueSize / 2 {
				g.rx.Add(nil, 1536)
			}
			g.activate()
			host := g.attach()
			began := time.Now()
			for range 3 {
				if _, err := host.Write(frame(size)); err != nil {
					t.Fatal(err)
				}
				g.send(noHeader, frame(size))
			}
			for range 3 {
				read(t, host)
				g.rx.WaitUsed()
			}
			if took, least := time.Since(began), 200*time.Millisecond-credit; took < least {
				t.Errorf("three frames took %v, want %v at least", took, least)
			}
		})
	}
}

// TestResetEndsAWait for the time when the next frame may be moved, which is hours
// away.
func TestResetEndsAWait(t *testing.T) {
	g := newGuest(t, false)
	g.dev.config.Receive, g.dev.config.Send = Rate{Bits: 1}, Rate{Bits: 1}
	for range queueSize / 2 {
		g.rx.Add(nil, 1536)
	}
	g.activate()
	host := g.attach()
	if _, err := host.Write(frame(1000)); err != nil {
		t.Fatal(err)
	}
	g.rx.WaitUsed()
	g.send(noHeader, frame(1000))
	ended := make(chan struct{})
	go func() {
		g.dev.Reset()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(queuetest.Patience):
		t.Fatal("a device that waits does not stop")
	}
}

func TestConfigIsTheAddress(t *testing.T) {
	g := newGuest(t, true)
	var p [8]byte
	g.dev.ReadConfig(1, p[:])
	if !bytes.Equal(p[:], []byte{0, 0, 0, 0, 1, 0, 0, 0}) {
		t.Errorf("% x", p)
	}
}

func TestForeignFramesAreDropped(t *testing.T) {
	g := newGuest(t, false)
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours := os.NewFile(uintptr(fds[1]), "host")
	defer ours.Close()
	own, alias := Address{2, 0, 0, 0, 0, 1}, Address{2, 0, 0, 0, 0, 2}
	g.attachFD(fds[0], own, alias)
	g.activate()
	header := make([]byte, headerSize)
	for _, from := range []Address{own, {2, 0, 0, 0, 0, 3}, alias, {}} {
		for _, n := range []int{ethernetHeader, 1514} {
			f := frame(n)
			copy(f[sourceOffset:], from[:])
			g.send(header, f)
			if from != own && from != alias {
				continue
			}
			p := make([]byte, maxFrame)
			ours.SetReadDeadline(time.Now().Add(queuetest.Patience))
			if got, err := ours.Read(p); err != nil || !bytes.Equal(p[:got], f) {
				t.Errorf("frame of %d bytes from %x: got % x, %v", n, from, p[:min(got, 20)], err)
			}
		}
	}
	if s := g.dev.Stats(); s.Sent != 4 || s.SentForeign != 4 || s.SentDropped != 4 {
		t.Errorf("%+v", s)
	}
	if len(g.warned) != 1 {
		t.Errorf("warned %d times, want once", len(g.warned))
	}
}
