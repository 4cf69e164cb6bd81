package vsock

import (
	"fmt"
	"sync/atomic"

	"github.com/microvm/microvm/vmm/virtio"
)

// fault is a rule that a guest broke. The ring itself is fine then, and so is
// the device: at most one stream is reset.
type fault int

const (
	faultNone fault = iota
	faultShort
	faultAddress
	faultType
	faultOperation
	faultLength
	faultCredit
	faultForward
	faultState
	faultCount
)

var faultNames = [faultCount]string{
	faultShort:     "packet without a whole header",
	faultAddress:   "packet with a foreign CID",
	faultType:      "packet of unknown type",
	faultOperation: "packet with an unknown operation",
	faultLength:    "payload longer than its descriptors",
	faultCredit:    "data past the credit",
	faultForward:   "fwd_cnt ahead of what was sent",
	faultState:     "operation in the wrong state",
}

// faults counts broken rules; the zero value is ready.
type faults [faultCount]atomic.Uint64

func (f *faults) counts() map[string]uint64 {
	m := make(map[string]uint64)
	for i := range f {
		if n := f[i].Load(); n != 0 {
			m[faultNames[i]] = n
		}
	}
	return m
}

// fault counts f and warns when it is the session's first.
func (s *session) fault(f fault) {
	s.device.faults[f].Add(1)
	if s.warned[f] || s.device.config.Warn == nil {
		return
	}
	s.warned[f] = true
	s.device.config.Warn(fmt.Errorf("vsock: %s: %w", faultNames[f], virtio.ErrDevice))
}
