package vhostuser

import (
	"encoding/binary"
	"math"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/vmm/virtio/queue"
)

// TestHostileMessages sends one message against the protocol to a running
// device; the server must give up with ErrProtocol.
func TestHostileMessages(t *testing.T) {
	cases := map[string]func(f *frontend){
		"unknown request":        func(f *frontend) { f.send(99, nil) },
		"request zero":           func(f *frontend) { f.send(0, nil) },
		"version zero":           func(f *frontend) { f.write(encode(setOwner, 0, nil)[:4]); f.write(make([]byte, 8)) },
		"flagged as reply":       func(f *frontend) { f.write(encode(getFeatures, flagReply, nil)) },
		"huge size":              func(f *frontend) { f.write(hugeHeader()) },
		"payload over the limit": func(f *frontend) { f.send(setConfig, make([]byte, maxPayload+1)) },
		"payload too short":      func(f *frontend) { f.send(setFeatures, make([]byte, 7)) },
		"payload too long":       func(f *frontend) { f.send(setFeatures, make([]byte, 9)) },
		"payload where none is":  func(f *frontend) { f.send(getFeatures, make([]byte, 8)) },
		"descriptor where none is": func(f *frontend) {
			f.send(setOwner, nil, f.kicks[0].FD())
		},
		"two descriptors for a kick": func(f *frontend) {
			f.send(setVringKick, u64(0), f.kicks[0].FD(), f.kicks[0].FD())
		},
		"nine descriptors": func(f *frontend) {
			fd := f.memFD()
			f.send(setMemTable, encodeTable(f.wholeMemory()), fd, fd, fd, fd, fd, fd, fd, fd, fd)
		},
		"hundreds of descriptors": func(f *frontend) {
			f.send(setMemTable, encodeTable(f.wholeMemory()), make([]int, 200)...)
		},
		"kick without its descriptor":  func(f *frontend) { f.send(setVringKick, u64(0)) },
		"kick to poll":                 func(f *frontend) { f.send(setVringKick, u64(vringNoFD)) },
		"call with and without":        func(f *frontend) { f.send(setVringCall, u64(vringNoFD), f.calls[0].FD()) },
		"kick of an unknown ring":      func(f *frontend) { f.send(setVringKick, u64(2), f.kicks[0].FD()) },
		"kick with unknown flags":      func(f *frontend) { f.send(setVringKick, u64(1<<9), f.kicks[0].FD()) },
		"kick that is a memfd":         func(f *frontend) { f.send(setVringKick, u64(0), f.memFD()) },
		"call that is a pipe":          func(f *frontend) { f.send(setVringCall, u64(0), pipe(f.t)) },
		"err that is a directory":      func(f *frontend) { f.send(setVringErr, u64(0), open(f.t, "/")) },
		"features not offered":         func(f *frontend) { f.send(setFeatures, u64(allAcked|1<<26)) },
		"protocol features not so":     func(f *frontend) { f.send(setProtocolFeatures, u64(1<<15)) },
		"ring size zero":               func(f *frontend) { f.send(setVringNum, state(0, 0)) },
		"ring size over the limit":     func(f *frontend) { f.send(setVringNum, state(0, queue.MaxSize+1)) },
		"ring size over 16 bits":       func(f *frontend) { f.send(setVringNum, state(0, 1<<16+ringSize)) },
		"size of an unknown ring":      func(f *frontend) { f.send(setVringNum, state(2, ringSize)) },
		"base over 16 bits":            func(f *frontend) { f.send(setVringBase, state(0, 1<<16)) },
		"base of an unknown ring":      func(f *frontend) { f.send(setVringBase, state(math.MaxUint32, 0)) },
		"address of an unknown ring":   func(f *frontend) { f.send(setVringAddr, encodeAddr(7, f.rings[0].Config)) },
		"enable an unknown ring":       func(f *frontend) { f.send(setVringEnable, state(2, 1)) },
		"stop an unknown ring":         func(f *frontend) { f.send(getVringBase, state(2, 0)) },
		"configuration without header": func(f *frontend) { f.send(getConfig, make([]byte, 11)) },
		"configuration offset wraps": func(f *frontend) {
			f.send(getConfig, configSpace{offset: math.MaxUint32, data: make([]byte, 4)}.encode())
		},
		"configuration past its limit": func(f *frontend) {
			f.send(setConfig, configSpace{offset: maxConfig - 1, data: make([]byte, 2)}.encode())
		},
		"configuration size lies": func(f *frontend) {
			b := configSpace{data: make([]byte, 4)}.encode()
			binary.NativeEndian.PutUint32(b[4:], 200)
			f.send(getConfig, b)
		},
	}
	for name, send := range cases {
		t.Run(name, func(t *testing.T) {
			f := connect(t, 2)
			f.up()
			send(f)
			f.expectBroken()
			if f.dev.resets() == 0 {
				t.Error("device was not reset")
			}
		})
	}
}

func hugeHeader() []byte {
	b := encode(setMemTable, 0, nil)
	binary.NativeEndian.PutUint32(b[8:], math.MaxUint32)
	return b
}

func pipe(t *testing.T) int {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return int(r.Fd())
}

func open(t *testing.T, path string) int {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return int(f.Fd())
}

func TestHostileMemoryTables(t *testing.T) {
	whole := memRegion{size: memorySize, user: userBase}
	half := memRegion{size: memorySize / 2, user: userBase}
	cases := map[string][]memRegion{
		"empty region":           {{user: userBase}},
		"huge region":            {{size: math.MaxUint64, user: userBase}},
		"huge signed region":     {{size: 1 << 63, user: userBase}},
		"larger than its file":   {{size: memorySize + 1, user: userBase}},
		"offset beyond its file": {{size: 4096, user: userBase, offset: memorySize + 4096}},
		"end beyond its file":    {{size: memorySize, user: userBase, offset: 4096}},
		"offset wraps":           {{size: 8192, user: userBase, offset: math.MaxUint64 - 4095}},
		"offset misaligned":      {{size: 4096, user: userBase, offset: 1}},
		"guest address wraps":    {{guest: math.MaxUint64 - 4095, size: 8192, user: userBase}},
		"user address wraps":     {{size: 8192, user: math.MaxUint64 - 4095}},
		"overlap in the guest":   {half, {guest: 4096, size: 4096, user: 2 * userBase}},
		"overlap in front end":   {half, {guest: memorySize, size: 4096, user: userBase + 4096}},
		"twice the same":         {whole, whole},
	}
	for name, regions := range cases {
		t.Run(name, func(t *testing.T) {
			f := connect(t, 1)
			f.up()
			fds := make([]int, len(regions))
			for i := range fds {
				fds[i] = f.memFD()
			}
			f.send(setMemTable, encodeTable(regions...), fds...)
			f.expectBroken()
		})
	}
}

func TestHostileMemoryDescriptors(t *testing.T) {
	table := encodeTable(memRegion{size: memorySize, user: userBase})
	nine := encodeTable(make([]memRegion, maxRegions)...)
	binary.NativeEndian.PutUint32(nine, maxRegions+1)
	for name, send := range map[string]func(f *frontend){
		"none":            func(f *frontend) { f.send(setMemTable, table) },
		"too many":        func(f *frontend) { f.send(setMemTable, table, f.memFD(), f.memFD()) },
		"no regions":      func(f *frontend) { f.send(setMemTable, encodeTable()) },
		"count lies":      func(f *frontend) { f.send(setMemTable, nine, f.memFD()) },
		"no payload":      func(f *frontend) { f.send(setMemTable, nil) },
		"not sealed":      func(f *frontend) { f.send(setMemTable, table, unsealed(f.t)) },
		"an eventfd":      func(f *frontend) { f.send(setMemTable, table, f.kicks[0].FD()) },
		"a directory":     func(f *frontend) { f.send(setMemTable, table, open(f.t, "/")) },
		"write-only file": func(f *frontend) { f.send(setMemTable, table, open(f.t, "/dev/null")) },
	} {
		t.Run(name, func(t *testing.T) {
			f := connect(t, 1)
			f.up()
			send(f)
			f.expectBroken()
		})
	}
}

// unsealed is memory that its maker could still shrink.
func unsealed(t *testing.T) int {
	t.Helper()
	fd, err := unix.MemfdCreate("unsealed", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Ftruncate(fd, memorySize); err != nil {
		t.Fatal(err)
	}
	return fd
}

func TestMessageInPieces(t *testing.T) {
	f := connect(t, 1)
	for _, b := range encode(setProtocolFeatures, 0, u64(protocolReplyAck)) {
		f.write([]byte{b})
	}
	f.sync()
}

func TestHangUpInsideAMessage(t *testing.T) {
	for _, n := range []int{1, headerSize, headerSize + 7} {
		f := connect(t, 1)
		f.write(encode(setFeatures, 0, u64(0))[:n])
		f.c.Close()
		f.c = nil
		if err := <-f.served; err == nil {
			t.Errorf("hang-up after %d bytes went unnoticed", n)
		}
	}
}

func TestFrontEndThatDoesNotReadReplies(t *testing.T) {
	f := connect(t, 1)
	f.send(getFeatures, nil)
	f.send(getFeatures, nil)
	f.hangUp() // with replies unread, which resets the connection
}

// FuzzMessages runs a stream of messages, each with descriptors of the kind it
// wants, through the server. Whatever they say, it must not crash, and must
// give everything back.
func FuzzMessages(f *testing.F) {
	for r := range handlers {
		f.Add([]byte{byte(r), 0, 8, 0, 0, 0, 0, 0, 0, 0, 0})
	}
	f.Add(upMessages())
	f.Fuzz(func(t *testing.T, stream []byte) {
		s := newServer(&echo{queues: 2, config: make([]byte, 16)}, Options{})
		defer s.release()
		for len(stream) >= 3 {
			r, fds, n := request(stream[0]), int(stream[1]%4), int(stream[2])
			stream = stream[3:]
			n = min(n, len(stream))
			m := &message{header: header{request: r, flags: version, size: uint32(n)}, payload: stream[:n]}
			stream = stream[n:]
			for range fds {
				m.fds = append(m.fds, fuzzFD(t, r))
			}
			_, err := s.handle(m)
			m.close()
			if err != nil {
				return
			}
		}
	})
}

// fuzzFD makes a descriptor of the kind that r wants.
func fuzzFD(t *testing.T, r request) int {
	var fd int
	var err error
	if r == setMemTable {
		fd, err = unix.MemfdCreate("fuzz", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
		if err == nil {
			err = unix.Ftruncate(fd, memorySize)
		}
		if err == nil {
			_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK)
		}
	} else {
		fd, err = unix.Eventfd(0, unix.EFD_CLOEXEC)
	}
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// upMessages is a whole start in the format of FuzzMessages.
func upMessages() []byte {
	var b []byte
	add := func(r request, fds byte, p []byte) {
		b = append(append(b, byte(r), fds, byte(len(p))), p...)
	}
	add(setFeatures, 0, u64(allAcked))
	add(setMemTable, 1, encodeTable(memRegion{size: memorySize, user: userBase}))
	add(setVringNum, 0, state(0, ringSize))
	add(setVringAddr, 0, encodeAddr(0, ringConfig()))
	add(setVringKick, 1, u64(0))
	add(setVringEnable, 0, state(0, 1))
	add(getVringBase, 0, state(0, 0))
	return b
}
