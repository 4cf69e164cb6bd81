package vhostuser

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/microvm/microvm/vmm/guestmem"
	"github.com/microvm/microvm/vmm/virtio"
	"github.com/microvm/microvm/vmm/virtio/queue"
)

func TestNegotiation(t *testing.T) {
	f := connect(t, 3)
	if got := binary.NativeEndian.Uint64(f.ask(getFeatures, nil)); got != allAcked {
		t.Errorf("features %#x, want %#x", got, uint64(allAcked))
	}
	want := protocolMQ | protocolReplyAck | protocolConfig
	if got := binary.NativeEndian.Uint64(f.ask(getProtocolFeatures, nil)); got != want {
		t.Errorf("protocol features %#x, want %#x", got, want)
	}
	if got := binary.NativeEndian.Uint64(f.ask(getQueueNum, nil)); got != 3 {
		t.Errorf("%d queues, want 3", got)
	}
}

func TestNoConfigIsNotOffered(t *testing.T) {
	s := newServer(&echo{queues: 1}, Options{NoConfig: true})
	if p := s.offeredProtocol(); p&protocolConfig != 0 {
		t.Errorf("protocol features %#x", p)
	}
}

func TestReplyAck(t *testing.T) {
	f := connect(t, 1)
	// Not negotiated yet: the flag is ignored.
	f.write(encode(setOwner, flagNeedReply, nil))
	f.send(setProtocolFeatures, u64(protocolReplyAck))
	f.write(encode(setVringNum, flagNeedReply, state(0, 4)))
	if got := f.reply(setVringNum); binary.NativeEndian.Uint64(got) != 0 {
		t.Errorf("acknowledged with % x", got)
	}
	// A request with a reply of its own gets no second one.
	f.write(encode(getFeatures, flagNeedReply, nil))
	f.reply(getFeatures)
	f.sync()
}

func TestConfigSpace(t *testing.T) {
	f := connect(t, 1)
	set := configSpace{offset: 2, data: []byte("ab")}
	f.send(setConfig, set.encode())
	get := configSpace{offset: 1, data: make([]byte, 12)}
	c, err := parseConfigSpace(f.ask(getConfig, get.encode()))
	if err != nil || string(c.data) != "1ab456789\x00\x00\x00" {
		t.Fatalf("%q, %v", c.data, err)
	}
}

func TestDataGoesRound(t *testing.T) {
	f := connect(t, 2)
	f.up()
	for i := range 3 * ringSize {
		f.echo(i%2, fmt.Sprintf("message %d", i))
	}
	if !f.calls[0].Wait() {
		t.Error("no interrupt")
	}
	n, a := f.dev.active()
	if n != 1 || a.Features != virtio.TransportFeatures|deviceBit || len(a.Queues) != 2 {
		t.Errorf("%d activations, features %#x, %d queues", n, a.Features, len(a.Queues))
	}
}

// TestDeviceStartsWithTheLastRing: the device must see all rings at once, and
// rings that the front end keeps to itself are nil.
func TestDeviceStartsWithTheLastRing(t *testing.T) {
	f := connect(t, 3)
	f.negotiate()
	f.start(0, 0)
	f.start(1, 0)
	f.enable(0, 1)
	f.sync()
	if n, _ := f.dev.active(); n != 0 {
		t.Fatal("active with a ring disabled")
	}
	f.enable(1, 1)
	f.sync()
	n, a := f.dev.active()
	if n != 1 || a.Queue(0) == nil || a.Queue(1) == nil || a.Queue(2) != nil {
		t.Fatalf("%d activations, queues %v", n, a.Queues)
	}
	f.echo(1, "hello")
}

// TestPartialDevice runs with those of the started rings that are enabled.
func TestPartialDevice(t *testing.T) {
	f := connectWith(t, 3, Options{Partial: true})
	f.negotiate()
	f.start(0, 0)
	f.start(1, 0)
	f.sync()
	if n, _ := f.dev.active(); n != 0 {
		t.Fatal("active with all rings disabled")
	}
	for round := range 3 {
		f.enable(0, 1)
		f.sync()
		if _, a := f.dev.active(); a.Queue(0) == nil || a.Queue(1) != nil {
			t.Fatalf("queues %v, want the first", a.Queues)
		}
		f.echo(0, "one ring")
		f.enable(1, 1)
		f.enable(1, 1) // that changes nothing
		f.sync()
		n, a := f.dev.active()
		if n != 3*round+2 || a.Queue(0) == nil || a.Queue(1) == nil || a.Queue(2) != nil {
			t.Fatalf("%d activations, queues %v", n, a.Queues)
		}
		f.echo(0, "two rings")
		f.echo(1, "two rings")
		f.enable(1, 0)
		f.echo(0, "one ring again")
		f.enable(0, 0)
		f.sync()
		if f.dev.resets() != 3*(round+1) {
			t.Errorf("%d resets", f.dev.resets())
		}
	}
}

func TestBuffersThatWaitAreServed(t *testing.T) {
	f := connect(t, 1)
	b := f.rings[0].Add([]byte("early"), 16)
	f.up()
	if head, n := f.rings[0].WaitUsed(); head != b.Head || n != 5 {
		t.Fatalf("head %d, %d bytes", head, n)
	}
}

func TestRingsWithoutProtocolFeaturesStartEnabled(t *testing.T) {
	f := connect(t, 1)
	f.negotiate()
	f.send(setFeatures, u64(allAcked&^featureProtocol))
	f.start(0, 0)
	f.echo(0, "hello")
}

func TestStopAndRestart(t *testing.T) {
	f := connect(t, 2)
	f.up()
	for range 5 {
		f.echo(0, "zero")
	}
	for round := range 20 {
		f.enable(0, 0)
		f.enable(1, 0)
		v := parseVringState(f.ask(getVringBase, state(0, 0)))
		if v.index != 0 || v.num != uint32(5+round) {
			t.Fatalf("round %d: stopped at %+v", round, v)
		}
		f.ask(getVringBase, state(1, 0))
		f.start(0, v.num)
		f.start(1, 0)
		f.enable(0, 1)
		f.enable(1, 1)
		f.echo(0, "again")
	}
	if f.sync(); f.dev.resets() != 20 {
		t.Errorf("%d resets, want 20", f.dev.resets())
	}
}

func TestDeviceGoesOnWithTheRemainingRing(t *testing.T) {
	f := connect(t, 2)
	f.up()
	f.echo(1, "before")
	f.ask(getVringBase, state(0, 0))
	f.echo(1, "after")
	if n, a := f.dev.active(); n != 2 || a.Queue(0) != nil {
		t.Fatalf("%d activations, queues %v", n, a.Queues)
	}
	f.start(0, 0)
	f.echo(0, "back")
	f.echo(1, "still")
}

func TestResetOwnerStopsTheDevice(t *testing.T) {
	f := connect(t, 1)
	f.up()
	f.send(resetOwner, nil)
	f.sync()
	if f.dev.resets() != 1 {
		t.Fatalf("%d resets", f.dev.resets())
	}
	f.enable(0, 1)
	f.echo(0, "again")
}

func TestCallIsReplacedWhileActive(t *testing.T) {
	f := connect(t, 1)
	f.up()
	f.echo(0, "to the first descriptor")
	next := eventFD(t)
	f.send(setVringCall, u64(0), next.FD())
	if !next.Wait() {
		t.Fatal("new descriptor was not rung")
	}
	f.echo(0, "to the second")
	next.Wait()
	f.send(setVringCall, u64(vringNoFD))
	f.echo(0, "to none")
}

func TestMemoryGrowsWhileActive(t *testing.T) {
	f := connect(t, 1)
	f.up()
	more, err := guestmem.AllocateSealed("more", []guestmem.Range{{Base: 0, Size: 0x10000}})
	if err != nil {
		t.Fatal(err)
	}
	defer more.Close()
	high := memRegion{guest: 1 << 32, size: 0x10000, user: userBase + 1<<32}
	for range 3 {
		f.send(setMemTable, encodeTable(high, f.wholeMemory()), int(more.Regions()[0].File.Fd()), f.memFD())
		f.echo(0, "on the old mapping")
	}
	if n, _ := f.dev.active(); n != 1 {
		t.Fatalf("%d activations: the running device was disturbed", n)
	}
	f.send(setVringBase, state(0, 3)) // any change of a ring brings the new table in
	f.sync()
	f.echo(0, "on the new")
	if n, a := f.dev.active(); n != 2 || len(a.Memory.Regions()) != 2 {
		t.Fatalf("%d activations, regions %v", n, a.Memory.Regions())
	}
}

func TestMemoryIsReplacedWhileActive(t *testing.T) {
	f := connect(t, 1)
	f.up()
	f.echo(0, "before")
	half := f.wholeMemory()
	half.size /= 2
	f.send(setMemTable, encodeTable(half), f.memFD())
	f.sync()
	f.echo(0, "after")
	if n, a := f.dev.active(); n != 2 || a.Memory.Size() != memorySize/2 {
		t.Fatalf("%d activations, %d bytes", n, a.Memory.Size())
	}
}

func TestBrokenRingIsReported(t *testing.T) {
	f := connect(t, 1)
	bad := eventFD(t)
	f.send(setVringErr, u64(0), bad.FD())
	f.up()
	f.rings[0].Publish(ringSize)
	f.kicks[0].Ring()
	if err := <-f.failed; !errors.Is(err, queue.ErrBroken) {
		t.Fatal(err)
	}
	if !bad.Wait() {
		t.Fatal("error descriptor was not rung")
	}
	f.sync() // the connection lives
}

// TestSetUpThatTheGuestChose must not end the connection, which all of the
// VM's life hangs on.
func TestSetUpThatTheGuestChose(t *testing.T) {
	for name, set := range map[string]func(f *frontend){
		"ring misaligned":    func(f *frontend) { f.rings[0].Config.Desc += 2 },
		"ring at the end":    func(f *frontend) { f.rings[0].Config.Used = memorySize - 4 },
		"rings overlap":      func(f *frontend) { f.rings[0].Config.Used = f.rings[0].Config.Desc },
		"ring not in memory": func(f *frontend) { f.rings[0].Config.Avail = 1 << 40 },
		"device refuses":     func(f *frontend) { f.dev.setRefuse(errors.New("no")) },
	} {
		t.Run(name, func(t *testing.T) {
			f := connect(t, 1)
			good := f.rings[0].Config
			set(f)
			f.up()
			if err := <-f.failed; err == nil {
				t.Fatal("no error")
			}
			f.sync()
			if len(f.failed) != 0 {
				t.Fatal("tried again without a change")
			}
			f.dev.setRefuse(nil)
			f.ask(getVringBase, state(0, 0))
			f.rings[0].Config = good
			f.start(0, 0)
			f.echo(0, "recovered")
		})
	}
}

func TestLegacyDriverIsRefused(t *testing.T) {
	f := connect(t, 1)
	f.negotiate()
	f.send(setFeatures, u64(featureProtocol))
	f.start(0, 0)
	f.enable(0, 1)
	if err := <-f.failed; !errors.Is(err, errLegacy) {
		t.Fatal(err)
	}
}

func TestServeClosesEveryDescriptor(t *testing.T) {
	before := countFDs(t)
	for range 3 {
		f := connect(t, 2)
		f.up()
		f.hangUp()
		for i := range f.rings {
			f.kicks[i].Close()
			f.calls[i].Close()
		}
		f.mem.Close()
	}
	if after := countFDs(t); after > before {
		t.Errorf("%d descriptors, before %d", after, before)
	}
}

func countFDs(t *testing.T) int {
	t.Helper()
	e, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(e)
}
