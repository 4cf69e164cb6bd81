package net

import (
	"encoding/binary"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/microvm/microvm/vmm/virtio"
	"github.com/microvm/microvm/vmm/virtio/queue/queuetest"
)

// paired is a driver of a device with several pairs of queues on a tap.
type paired struct {
	*guest
	rings   []*queuetest.Driver // of pairs, rx and tx in turn
	control *queuetest.Driver
	wire    *os.File
}

const testPairs = 3

func newPaired(t *testing.T) *paired {
	t.Helper()
	mem := queuetest.Memory(t, 32<<20)
	p := &paired{guest: &guest{t: t, failed: make(chan error, 8), warned: make(chan error, 8)}}
	ring := func(i int) *queuetest.Driver { return queuetest.New(t, mem, uint64(i)<<22, queueSize, 2<<20) }
	for i := range testPairs * queuesOfPair {
		p.rings = append(p.rings, ring(i))
	}
	p.control = ring(len(p.rings))
	p.dev = New(Config{Tap: true, Pairs: testPairs, Warn: func(err error) { p.warned <- err }})
	t.Cleanup(func() {
		p.dev.Reset()
		p.dev.Detach()
	})
	return p
}

// activate starts all rings. The driver has taken all features.
func (p *paired) activate() {
	p.t.Helper()
	p.activateWith(0, append(p.rings, p.control)...)
}

// activateWith starts some rings. The driver has taken all features but those without.
func (p *paired) activateWith(without uint64, rings ...*queuetest.Driver) {
	p.t.Helper()
	a := virtio.Activation{
		Memory: p.control.Mem, Features: (virtio.TransportFeatures | p.dev.Features()) &^ without,
		Fail: func(err error) { p.failed <- err },
	}
	for _, r := range rings {
		a.Queues = append(a.Queues, r.Activated())
	}
	if err := p.dev.Activate(a); err != nil {
		p.t.Fatal(err)
	}
}

func (p *paired) attach() {
	p.t.Helper()
	var tap []*os.File
	tap, p.wire = newTap(p.t.(*testing.T), testPairs)
	if err := p.dev.Attach(tap); err != nil {
		p.t.Fatal(err)
	}
}

// use is the driver's command to use n pairs, and the answer.
func (p *paired) use(n int) byte {
	p.t.Helper()
	command := binary.LittleEndian.AppendUint16([]byte{classMQ, setPairs}, uint16(n))
	return p.control.Do(command, 1)[0]
}

// sends tells whether a frame in pair i's ring is sent.
func (p *paired) sends(i int) bool {
	p.t.Helper()
	before := p.dev.Stats().Sent
	tx := p.rings[queuesOfPair*i+queueTx]
	tx.Add(append(noHeader[:headerSize:headerSize], frame(100)...), 0)
	tx.Kick()
	for end := time.Now().Add(200 * time.Millisecond); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if p.dev.Stats().Sent > before {
			return true
		}
	}
	return false
}

// flows is how many are told apart, a frame of each. They are received into buffers
// of receiveBuffer bytes.
const (
	flows         = 60
	receiveBuffer = 1536
)

// supply gives the rings room for the frames of receive.
func (p *paired) supply() {
	for i := range testPairs {
		rx := p.rings[queuesOfPair*i+queueRx]
		for range flows + (headerSize+maxFrame)/receiveBuffer + 1 {
			rx.Add(nil, receiveBuffer)
		}
		rx.Kick()
	}
}

// receive sends frames of many flows to the guest, and returns how many arrived in
// each pair.
func (p *paired) receive() (arrived [testPairs]int) {
	p.t.Helper()
	for port := range flows {
		if _, err := p.wire.Write(datagram(uint16(port))); err != nil {
			p.t.Fatal(err)
		}
	}
	sum := 0
	for end := time.Now().Add(queuetest.Patience); sum < flows && time.Now().Before(end); time.Sleep(time.Millisecond) {
		for i := range arrived {
			n := p.takeFrames(p.rings[queuesOfPair*i+queueRx])
			arrived[i] += n
			sum += n
		}
	}
	if sum != flows {
		p.t.Errorf("%d of %d frames arrived: %v", sum, flows, arrived)
	}
	return arrived
}

// takeFrames counts the datagrams that a ring has brought, and gives it new buffers.
func (p *paired) takeFrames(rx *queuetest.Driver) (datagrams int) {
	for {
		_, n, ok := rx.Used()
		if !ok {
			rx.Kick()
			return datagrams
		}
		if n == uint32(headerSize+len(datagram(0))) {
			datagrams++
		}
		rx.Add(nil, receiveBuffer)
	}
}

// datagram is a frame with one of UDP over IPv4, which the kernel tells flows by.
func datagram(port uint16) []byte {
	f := make([]byte, ethernetHeader+20+8+100)
	copy(f, []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 128, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2})
	binary.BigEndian.PutUint16(f[ethernetHeader+20:], 1000+port)
	binary.BigEndian.PutUint16(f[ethernetHeader+22:], 53)
	binary.BigEndian.PutUint16(f[ethernetHeader+24:], 108)
	return f
}

// TestPairsOfQueues has frames move over as many pairs as the driver wants.
func TestPairsOfQueues(t *testing.T) {
	p := newPaired(t)
	p.supply()
	p.attach()
	p.activate()
	for i, n := range []int{1, 3, 2, 3, 1} {
		// One pair is used until the driver says more.
		if i > 0 && p.use(n) != answerOK {
			t.Fatalf("%d pairs are refused", n)
		}
		for i, got := range p.receive() {
			if (got > 0) != (i < n) {
				t.Errorf("with %d pairs, pair %d receives %d frames", n, i, got)
			}
			if i < n && !p.sends(i) {
				t.Errorf("with %d pairs, pair %d does not send", n, i)
			}
		}
	}
	if p.sends(1) {
		t.Error("a pair sends that is not used")
	}
	if len(p.failed)+len(p.warned) > 0 {
		t.Error("the device complained")
	}
}

// TestFrontEndSwitchesPairs has a front end obey commands, and so start rings.
func TestFrontEndSwitchesPairs(t *testing.T) {
	for _, n := range []int{1, 3, 2} {
		p := newPaired(t)
		p.supply()
		p.attach()
		p.activateWith(featureCtrlVQ, p.rings[:queuesOfPair*n]...)
		for i, got := range p.receive() {
			if (got > 0) != (i < n) {
				t.Errorf("with %d pairs, pair %d receives %d frames", n, i, got)
			}
		}
	}
}

// TestTapOutlivesItsDevice: another device finds all queues of a tap in use that the
// driver of the first did not want.
func TestTapOutlivesItsDevice(t *testing.T) {
	p := newPaired(t)
	tap, wire := newTap(t, testPairs)
	p.wire = wire
	p.supply()
	p.activate()
	for range 2 {
		if err := p.dev.Attach(tap); err != nil {
			t.Fatal(err)
		}
	}
	if p.use(testPairs) != answerOK || p.receive()[testPairs-1] == 0 {
		t.Error("the last queue brings nothing")
	}
}

// TestHostileCommands sends what is no command.
func TestHostileCommands(t *testing.T) {
	p := newPaired(t)
	p.attach()
	p.activate()
	for _, n := range []int{0, testPairs + 1, 0x8000, 0xffff} {
		if p.use(n) != answerError {
			t.Errorf("%d pairs are taken", n)
		}
	}
	for _, command := range [][]byte{
		{}, {classMQ}, {classMQ, setPairs}, {classMQ, setPairs, 2}, {classMQ, setPairs, 2, 0, 0},
		{0, 0, 1}, {1, 0, 0, 0}, {classMQ, 1, 2, 0}, {255, 255, 255, 255}, make([]byte, 1<<16),
	} {
		if len(command) > 0 && p.control.Do(command, 1)[0] != answerError {
			t.Errorf("% x is taken", command[:min(len(command), 8)])
		}
		p.control.FreeAll()
	}
	if p.sends(1) {
		t.Error("a second pair is used")
	}
	// As often as it can: the kernel is asked no more than the bound says.
	began := time.Now()
	const changes = 20
	for i := range changes {
		if p.use(1+i%2) != answerOK {
			t.Fatal("refused")
		}
		p.control.FreeAll()
	}
	if took, least := time.Since(began), (changes-2)*askEvery; took < least {
		t.Errorf("%d changes took %v, want %v at least", changes, took, least)
	}
	if !p.sends(0) || len(p.failed)+len(p.warned) > 0 {
		t.Error("the device stopped")
	}
}

func TestCommandWithoutRoomForAnAnswerFailsTheDevice(t *testing.T) {
	p := newPaired(t)
	p.activate()
	p.control.Add([]byte{classMQ, setPairs, 1, 0}, 0)
	p.control.Kick()
	if err := <-p.failed; !errors.Is(err, virtio.ErrDevice) {
		t.Fatal(err)
	}
}

// TestDriverWithoutPairs takes the control queue only, which then is the third one.
func TestDriverWithoutPairs(t *testing.T) {
	p := newPaired(t)
	p.control = p.rings[queuesOfPair]
	p.activateWith(featureMQ, p.rings[queueRx], p.rings[queueTx], p.control)
	if p.use(1) != answerError {
		t.Error("pairs that the driver has not taken are switched")
	}
}

// TestOnePairOnly: neither a socket nor a rate is shared by pairs.
func TestOnePairOnly(t *testing.T) {
	for _, c := range []Config{{Pairs: 4}, {Pairs: 4, Tap: true, Send: Rate{Frames: 1}}, {Tap: true}} {
		d := New(c)
		if n := len(d.QueueSizes()); n != queuesOfPair || d.Features()&(featureMQ|featureCtrlVQ) != 0 {
			t.Errorf("%+v: %d queues, features %#x", c, n, d.Features())
		}
		if err := d.Attach(make([]*os.File, 2)); err == nil {
			t.Errorf("%+v: two files are taken", c)
		}
	}
	var space [10]byte
	New(Config{Tap: true, Pairs: 4, MAC: Address{2}}).ReadConfig(0, space[:])
	if space != [10]byte{0: 2, 8: 4} {
		t.Errorf("configuration % x", space)
	}
}
