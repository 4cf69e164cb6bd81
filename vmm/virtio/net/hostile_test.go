package net

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestStarvedReceiveRingHoldsNothingUp lets frames come that the guest never gives
// a buffer for. It still sends, and the host keeps no more than the socket holds.
func TestStarvedReceiveRingHoldsNothingUp(t *testing.T) {
	g := newGuest(t, false)
	host := g.attach()
	g.activate()
	if err := host.SetWriteDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	sent := 0
	for ; ; sent++ {
		if _, err := host.Write(frame(1514)); err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, unix.EAGAIN) {
				t.Fatal(err)
			}
			break
		}
		if sent > 1<<16 {
			t.Fatal("the device takes frames that it has no place for")
		}
	}
	for range 10 {
		g.send(noHeader, frame(100))
		if got := read(t, host); len(got) != 100 {
			t.Errorf("%d bytes arrived", len(got))
		}
		g.tx.FreeAll()
	}
	if s := g.dev.Stats(); s.Received != 0 || s.Sent != 10 {
		t.Errorf("%+v, after %d frames", s, sent)
	}
	if len(g.failed)+len(g.warned) > 0 {
		t.Error("the device complained")
	}
}

// newTap makes a tap of some queues that is up, in a network namespace of its own.
// What is written to wire is what the tap sends.
func newTap(t *testing.T, queues int) (files []*os.File, wire *os.File) {
	t.Helper()
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is spoilt
		err := unix.Unshare(unix.CLONE_NEWNET)
		flags := uint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		if queues > 1 {
			flags |= unix.IFF_MULTI_QUEUE
		}
		for err == nil && len(files) < queues {
			var f *os.File
			if f, err = openTap(flags); err == nil {
				files = append(files, f)
			}
		}
		if err == nil {
			wire, err = openWire()
		}
		made <- err
	}()
	err := <-made
	t.Cleanup(func() {
		for _, f := range append(files, wire) {
			f.Close()
		}
	})
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOENT) {
		t.Skipf("needs root and /dev/net/tun: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return files, wire
}

// openWire opens the raw frames of the tap in the calling thread's namespace.
func openWire() (*os.File, error) {
	i, err := net.InterfaceByName("tap0")
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "wire"), unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: i.Index})
}

// openTap makes a tap in the calling thread's namespace, or one more queue of it, and
// brings it up.
func openTap(flags uint16) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "tap")
	req, err := unix.NewIfreq("tap0")
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	req.SetUint16(flags)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	defer unix.Close(s)
	req.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, req); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// TestManyResets resets a device with a tap as often as it can: the kernel is asked to
// change the tap no more than the bound says.
func TestManyResets(t *testing.T) {
	g := newGuest(t, true)
	tap, _ := newTap(t, 1)
	if err := g.dev.Attach(tap); err != nil {
		t.Fatal(err)
	}
	g.activate()
	began := time.Now()
	const resets = 20
	for range resets {
		g.dev.Reset()
		g.activate()
	}
	if took, least := time.Since(began), (resets-1)*askEvery; took < least {
		t.Errorf("%d resets took %v, want %v at least", resets, took, least)
	}
	g.send(noHeader, frame(100))
	if s := g.dev.Stats(); s.Sent != 1 || len(g.failed)+len(g.warned) > 0 {
		t.Errorf("the device stopped: %+v", s)
	}
}

// TestTapRefusesBadOffsets sends headers whose segments and checksums are not in
// the frame. The kernel refuses what makes no sense to it, and the device goes on.
func TestTapRefusesBadOffsets(t *testing.T) {
	const needsChecksum, tcp4 = 1, 1
	g := newGuest(t, true)
	tap, _ := newTap(t, 1)
	if err := g.dev.Attach(tap); err != nil {
		t.Fatal(err)
	}
	g.activate()
	header := func(flags, gso byte, headerLen, gsoSize, start, offset uint16) []byte {
		h := make([]byte, headerSize)
		h[0], h[1] = flags, gso
		for i, v := range []uint16{headerLen, gsoSize, start, offset} {
			binary.LittleEndian.PutUint16(h[2+2*i:], v)
		}
		return h
	}
	for name, h := range map[string][]byte{
		"checksum behind the frame":      header(needsChecksum, 0, 0, 0, 0xffff, 0xffff),
		"checksum over the end":          header(needsChecksum, 0, 0, 0, 99, 0),
		"segments of nothing":            header(needsChecksum, tcp4, 54, 0, 34, 16),
		"segments of an unknown kind":    header(needsChecksum, 0x7f, 54, 100, 34, 16),
		"segments without a checksum":    header(0, tcp4, 0xffff, 100, 0, 0),
		"headers longer than the frame":  header(needsChecksum, tcp4, 0xffff, 100, 34, 16),
		"unknown flags, everything else": header(0xff, 0xff, 0xffff, 0xffff, 0xffff, 0xffff),
	} {
		before := g.dev.Stats()
		g.send(h, frame(100))
		g.tx.FreeAll()
		if s := g.dev.Stats(); s.SentDropped != before.SentDropped+1 {
			t.Errorf("%s: %+v, was %+v", name, s, before)
		}
	}
	g.send(noHeader, frame(100))
	if s := g.dev.Stats(); s.Sent != 1 {
		t.Errorf("a good frame: %+v", s)
	}
	if len(g.failed)+len(g.warned) > 0 {
		t.Error("the device stopped")
	}
}
