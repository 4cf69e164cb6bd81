package net

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/vmm/guestmem"
	"github.com/microvm/microvm/vmm/virtio"
	"github.com/microvm/microvm/vmm/virtio/queue"
)

// sender moves frames from the guest to the file.
type sender struct {
	pump   *pump
	waiter virtio.Waiter
	queue  *virtio.Queue
	counts *direction
	pace   pacer
	chain  queue.Chain
	iov    guestmem.Vector
	heads  [1][]byte // the pieces that head is, see gather
	// foreign counts frames that were dropped for their source; head is what
	// has been looked at of a frame that is not.
	foreign *atomic.Uint64
	head    [headerSize + ethernetHeader]byte
}

func (s *sender) run() error {
	return s.queue.RunWith(s.drain, func() error { return s.waiter.Kicked(s.queue) })
}

func (s *sender) drain() error {
	defer s.queue.Notify()
	for {
		if s.pump.stopped.Load() {
			return virtio.ErrStopped
		}
		if err := pause(&s.waiter, &s.pace, s.queue); err != nil {
			return err
		}
		ok, err := s.queue.Pop(&s.chain)
		if !ok || err != nil {
			return err
		}
		err = s.send()
		s.queue.Push(s.chain.Head, 0)
		if err != nil {
			return err
		}
	}
}

// send writes the frame in chain. One that is too short or too long, or that
// the file refuses, is dropped.
func (s *sender) send() error {
	length := s.chain.ReadableLen - headerSize
	if length < ethernetHeader || length > maxFrame || len(s.chain.Readable) >= iovMax {
		s.counts.dropped.Add(1)
		return nil
	}
	if skip := s.pump.skip; skip > 0 {
		// Without a tap nobody fills in checksums or cuts segments; none of it
		// was offered.
		var header [headerSize]byte
		s.chain.Read(header[:], 0)
		if !plain(header[:]) {
			s.counts.dropped.Add(1)
			return nil
		}
	}
	if !s.gather() {
		s.counts.dropped.Add(1)
		return nil
	}
	err := s.write()
	switch {
	case err == nil:
		s.counts.add(length)
		s.pace.took(length)
	case refused(err):
		s.counts.dropped.Add(1)
	case errors.Is(err, virtio.ErrStopped):
		return err
	default:
		return fileError{err}
	}
	return nil
}

// gather makes iov of the frame in chain, unless it comes from an address that it
// must not come from. What was checked is a copy, and that is sent: the guest may
// change its own meanwhile.
func (s *sender) gather() bool {
	if len(s.pump.froms) == 0 {
		s.iov = s.iov[:0].Append(s.chain.Readable, s.pump.skip)
		return true
	}
	s.chain.Read(s.head[:], 0)
	if from := Address(s.head[headerSize+sourceOffset:]); !slices.Contains(s.pump.froms, from) {
		if s.foreign.Add(1) == 1 {
			s.pump.warn(fmt.Errorf("frames from %x, which is not the guest's address, are dropped", from))
		}
		return false
	}
	s.heads[0] = s.head[s.pump.skip:]
	s.iov = s.iov[:0].Append(s.heads[:], 0).Append(s.chain.Readable, len(s.head))
	return true
}

// write waits while the file takes nothing.
func (s *sender) write() error {
	for {
		_, err := s.iov.Writev(s.pump.fd)
		switch err {
		case unix.EINTR:
		case unix.EAGAIN:
			s.queue.Notify()
			if err := s.waiter.Await(s.pump.fd, unix.POLLOUT); err != nil {
				return err
			}
		default:
			return err
		}
	}
}

// refused says that err is about one frame: its header is bad, the tap is
// down, the socket's peer is not reading, or there is no memory.
func refused(err error) bool {
	switch err {
	case unix.EINVAL, unix.EIO, unix.ENOBUFS, unix.ENOMEM, unix.EMSGSIZE, unix.EFAULT:
		return true
	}
	return false
}

// iovMax is what the kernel takes in one call (UIO_MAXIOV).
const iovMax = 1024
