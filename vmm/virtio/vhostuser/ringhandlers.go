package vhostuser

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/microvm/microvm/vmm/virtio"
	"github.com/microvm/microvm/vmm/virtio/queue"
)

func (s *Server) ring(index uint64) (*vring, error) {
	if index >= uint64(len(s.rings)) {
		return nil, fmt.Errorf("%w: ring %d of %d", ErrProtocol, index, len(s.rings))
	}
	return s.rings[index], nil
}

func (s *Server) setVringNum(m *message) ([]byte, error) {
	v := parseVringState(m.payload)
	r, err := s.ring(uint64(v.index))
	if err != nil {
		return nil, err
	}
	// Not the device's own limit: QEMU's virtio-mmio offers 1024 for every ring
	// of every device, whatever the back end prefers.
	if v.num == 0 || v.num > queue.MaxSize {
		return nil, fmt.Errorf("%w: size %d, the limit is %d", ErrProtocol, v.num, queue.MaxSize)
	}
	s.pause()
	r.num = uint16(v.num)
	return nil, nil
}

func (s *Server) setVringAddr(m *message) ([]byte, error) {
	a := parseVringAddr(m.payload)
	r, err := s.ring(uint64(a.index))
	if err != nil {
		return nil, err
	}
	if a != r.addr {
		s.pause()
		r.addr = a
	}
	return nil, nil
}

func (s *Server) setVringBase(m *message) ([]byte, error) {
	v := parseVringState(m.payload)
	r, err := s.ring(uint64(v.index))
	if err != nil {
		return nil, err
	}
	if v.num > math.MaxUint16 {
		return nil, fmt.Errorf("%w: ring index %d", ErrProtocol, v.num)
	}
	s.pause()
	r.base = uint16(v.num)
	return nil, nil
}

// getVringBase stops the ring.
func (s *Server) getVringBase(m *message) ([]byte, error) {
	v := parseVringState(m.payload)
	r, err := s.ring(uint64(v.index))
	if err != nil {
		return nil, err
	}
	s.pause()
	r.stop()
	return vringState{index: v.index, num: uint32(r.base)}.encode(), nil
}

func (s *Server) setVringEnable(m *message) ([]byte, error) {
	v := parseVringState(m.payload)
	r, err := s.ring(uint64(v.index))
	if err != nil {
		return nil, err
	}
	if enabled := v.num != 0; enabled != r.enabled {
		if s.opts.Partial {
			s.pause() // and go on with other rings
		}
		r.enabled = enabled
	}
	return nil, nil
}

// eventFD returns the ring that m names and the eventfd that came along, nil
// when m says that there is none.
func (s *Server) eventFD(m *message) (*vring, *virtio.EventFD, error) {
	v := binary.NativeEndian.Uint64(m.payload)
	if v&^(vringIndexMask|vringNoFD) != 0 {
		return nil, nil, fmt.Errorf("%w: ring and flags %#x", ErrProtocol, v)
	}
	r, err := s.ring(v & vringIndexMask)
	if err != nil {
		return nil, nil, err
	}
	if want := v&vringNoFD == 0; want != (len(m.fds) == 1) {
		return nil, nil, fmt.Errorf("%w: ring and flags %#x with %d descriptors", ErrProtocol, v, len(m.fds))
	}
	if len(m.fds) == 0 {
		return r, nil, nil
	}
	e, err := openEventFD(m.takeFD(0))
	return r, e, err
}

// setVringKick starts the ring. There has to be a descriptor: without one the
// ring would have to be polled.
func (s *Server) setVringKick(m *message) ([]byte, error) {
	r, e, err := s.eventFD(m)
	if err != nil {
		return nil, err
	}
	if e == nil {
		return nil, fmt.Errorf("%w: rings without a kick descriptor are not polled", ErrProtocol)
	}
	s.pause()
	r.stop()
	r.kick = e
	return nil, nil
}

// setVringCall may come at any time. The new descriptor is rung once unasked:
// what was used before went to the old one, which nobody may have read.
func (s *Server) setVringCall(m *message) ([]byte, error) {
	r, e, err := s.eventFD(m)
	if err != nil {
		return nil, err
	}
	r.call.set(e)
	if r.live != nil {
		r.call.ring()
	}
	return nil, nil
}

func (s *Server) setVringErr(m *message) ([]byte, error) {
	r, e, err := s.eventFD(m)
	if err != nil {
		return nil, err
	}
	r.err.set(e)
	return nil, nil
}
