package net

import (
	"bytes"
	"testing"
	"time"

	"github.com/microvm/microvm/vmm/virtio/queue/queuetest"
)

// FuzzGuest sends what a guest may send, and receives into what it may offer:
// whatever that is, the device neither breaks down nor stands still.
func FuzzGuest(f *testing.F) {
	f.Add(append(noHeader, frame(60)...), uint16(1600), uint16(60))
	f.Add(append([]byte{1, 4}, frame(70)...), uint16(13), uint16(1514))
	f.Add([]byte{}, uint16(64), uint16(9000))
	f.Fuzz(func(t *testing.T, sent []byte, buffer, size uint16) {
		if len(sent) > 1<<16 || buffer <= headerSize || size < ethernetHeader {
			t.Skip()
		}
		g := newGuest(t, false)
		host := g.attach()
		for range queueSize / 4 {
			g.rx.Add(nil, int(buffer))
		}
		g.activate()
		g.rx.Kick()
		if len(sent) > 0 {
			g.send(sent, nil)
		}
		if _, err := host.Write(frame(int(size))); err != nil {
			t.Fatal(err)
		}
		if int(buffer)*queueSize/4 < headerSize+maxFrame {
			g.dev.Reset() // it waits for room for the largest frame
			return
		}
		settled := func() bool { s := g.dev.Stats(); return s.Received+s.ReceivedDropped > 0 }
		for end := time.Now().Add(queuetest.Patience); !settled() && len(g.failed)+len(g.warned) == 0; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the frame was neither delivered nor dropped")
			}
		}
		if len(g.failed)+len(g.warned) > 0 {
			t.Fatal("the device stopped")
		}
	})
}

// FuzzCommand sends anything to the control queue, with room for any answer.
func FuzzCommand(f *testing.F) {
	f.Add([]byte{classMQ, setPairs, 2, 0}, uint16(1))
	f.Add([]byte{classMQ, setPairs, 0, 0, 0}, uint16(2))
	f.Add([]byte{0, 0, 1}, uint16(0))
	f.Fuzz(func(t *testing.T, command []byte, room uint16) {
		if len(command) > 1<<16 || len(command) == 0 && room == 0 {
			t.Skip()
		}
		p := newPaired(t)
		p.activate()
		b := p.control.Add(command, int(room))
		p.control.Kick()
		if _, n := p.control.WaitUsed(); room > 0 && (n != 1 || b.In[0] > answerError) {
			t.Fatalf("an answer of %d bytes: % x", n, b.In[:1])
		}
		if room > 0 && len(p.failed)+len(p.warned) > 0 {
			t.Fatal("the device stopped")
		}
	})
}

// TestEveryBufferSizeIsUsed receives one frame into buffers of many sizes.
func TestEveryBufferSizeIsUsed(t *testing.T) {
	for _, size := range []int{headerSize + 1, 64, 1526, 4096, 1 << 16} {
		g := newGuest(t, false)
		var buffers []queuetest.Buffer
		for range queueSize {
			if len(buffers)*size > guestMemory/8 {
				break
			}
			buffers = append(buffers, g.rx.Add(nil, size))
		}
		host := g.attach()
		g.activate()
		const n = 200
		if _, err := host.Write(frame(n)); err != nil {
			t.Fatal(err)
		}
		var got []byte
		for i := 0; len(got) < headerSize+n; i++ {
			_, written := g.rx.WaitUsed()
			got = append(got, buffers[i].In[:written]...)
		}
		if !bytes.Equal(got[headerSize:], frame(n)) {
			t.Errorf("buffers of %d bytes: % x", size, got[headerSize:])
		}
	}
}
