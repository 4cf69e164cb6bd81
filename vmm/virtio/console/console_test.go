package console

import (
	"bytes"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/microvm/microvm/vmm/virtio"
	"github.com/microvm/microvm/vmm/virtio/queue"
	"github.com/microvm/microvm/vmm/virtio/queue/queuetest"
)

// sink is a writer that a test may read while the device writes.
type sink struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(p)
}

func (s *sink) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

type console struct {
	dev    *Device
	in     *queuetest.Driver
	out    *queuetest.Driver
	text   *sink
	failed chan error
}

func start(t *testing.T) *console {
	t.Helper()
	mem := queuetest.Memory(t, 4<<20)
	c := &console{
		in:     queuetest.New(t, mem, 0x1000, queueSize, 0x10000),
		out:    queuetest.New(t, mem, 0x100000, queueSize, 0x100000),
		text:   &sink{},
		failed: make(chan error, 1),
	}
	c.dev = New(c.text)
	c.activate(t)
	t.Cleanup(c.dev.Reset)
	return c
}

func (c *console) activate(t *testing.T) {
	t.Helper()
	err := c.dev.Activate(virtio.Activation{
		Memory: c.out.Mem, Features: virtio.TransportFeatures,
		Queues: []*virtio.Queue{c.in.Activated(), c.out.Activated()},
		Fail:   func(err error) { c.failed <- err },
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestOutputIsInOrder(t *testing.T) {
	c := start(t)
	var want strings.Builder
	for i := range 200 {
		line := strings.Repeat(string(rune('a'+i%26)), 1+i*7%100)
		want.WriteString(line)
		c.out.FreeAll()
		c.out.Do([]byte(line), 0)
	}
	if got := c.text.String(); got != want.String() {
		t.Fatalf("got %d bytes, want %d", len(got), want.Len())
	}
}

func TestHugeBufferIsCut(t *testing.T) {
	c := start(t)
	c.out.SetDesc(0, 0x200000, 2<<20, 0, 0)
	c.out.Publish(0)
	c.out.Kick()
	c.out.WaitUsed()
	if n := len(c.text.String()); n != MaxBuffer {
		t.Fatalf("kept %d bytes, want %d", n, MaxBuffer)
	}
}

func TestInputQueueIsLeftAlone(t *testing.T) {
	c := start(t)
	c.in.Add(nil, 64)
	c.in.Kick()
	c.out.Do([]byte("x"), 0)
	if _, _, ok := c.in.Used(); ok {
		t.Fatal("input buffer was used")
	}
}

func TestEndlessOutputKeepsNothing(t *testing.T) {
	c := start(t)
	dropped := writerFunc(func(p []byte) (int, error) { return 0, errors.New("full") })
	c.dev.Reset()
	c.dev.out = dropped
	c.out.Config.Next = 0
	c.activate(t)
	line := bytes.Repeat([]byte("x"), 4096)
	for range 500 {
		c.out.FreeAll()
		c.out.Do(line, 0)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestBrokenRingFailsTheDevice(t *testing.T) {
	c := start(t)
	c.out.Publish(queueSize)
	c.out.Kick()
	if err := <-c.failed; !errors.Is(err, queue.ErrBroken) {
		t.Fatal(err)
	}
}

// TestResetUnderLoad lets the guest refill the ring for as long as Reset runs.
func TestResetUnderLoad(t *testing.T) {
	c := start(t)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		c.out.SetDesc(0, 0x200000, 16, 0, 0)
		for i := uint16(1); ; i++ {
			select {
			case <-stop:
				return
			default:
				c.out.SetAvailIdx(i)
				c.out.Kick()
			}
		}
	}()
	c.dev.Reset()
	close(stop)
	<-done
}
