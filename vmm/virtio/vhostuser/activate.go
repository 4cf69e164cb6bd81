package vhostuser

import (
	"errors"
	"fmt"

	"github.com/microvm/microvm/vmm/virtio"
)

var errLegacy = errors.New("driver without VIRTIO_F_VERSION_1")

// settle makes the device active or not, as the rings' states want it.
func (s *Server) settle() {
	if !s.ready() {
		s.pause()
		return
	}
	if s.active != nil || s.failed {
		return
	}
	if err := s.activate(); err != nil {
		s.pause()
		s.failed = true
		s.fail(fmt.Errorf("activate device: %w", err))
	}
}

// ready says that the front end's set-up is complete.
func (s *Server) ready() bool {
	if s.table == nil {
		return false
	}
	usable := false
	for _, r := range s.rings {
		if s.usable(r) {
			usable = true
		} else if r.started() && !s.opts.Partial {
			return false
		}
	}
	return usable
}

// usable says that a ring is started and enabled, which rings without the protocol
// feature always are.
func (s *Server) usable(r *vring) bool {
	return r.started() && (r.enabled || s.features&featureProtocol == 0)
}

func (s *Server) activate() error {
	features := s.features &^ featureProtocol
	if features&virtio.FeatureVersion1 == 0 {
		return errLegacy
	}
	queues := make([]*virtio.Queue, len(s.rings))
	for i, r := range s.rings {
		if !s.usable(r) {
			continue
		}
		q, err := r.open(s.table, features)
		if err != nil {
			return fmt.Errorf("open queue %d: %w", i, err)
		}
		queues[i] = q
	}
	s.active = s.table
	return s.dev.Activate(virtio.Activation{
		Memory: s.table.mem, Features: features, Queues: queues, Fail: s.fail,
	})
}

// pause resets the device if it is active and takes the rings back, with the
// indices they got to.
func (s *Server) pause() {
	s.failed = false
	if s.active != nil {
		s.dev.Reset()
	}
	for _, r := range s.rings {
		r.release()
	}
	if s.active != nil && s.active != s.table {
		_ = s.active.close()
	}
	s.active = nil
}

// fail tells the front end by the rings' error descriptors, and the owner.
func (s *Server) fail(err error) {
	for _, r := range s.rings {
		r.err.ring()
	}
	s.opts.Fail(err)
}
