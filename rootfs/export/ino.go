package export

import "sync"

// inodeNumbers makes the numbers that the guest sees. Exports lie on several
// file systems of the host, but share one device number in the guest.
//
// A number of the host's first file system is kept. Those of others get the
// order of their device in the upper bits. What doesn't fit becomes a hash
// with the top bit set, which no composed number has.
type inodeNumbers struct {
	mu     sync.RWMutex
	orders map[uint64]uint64 // by device number
}

const (
	inoBits    = 48
	maxDevices = 1 << (63 - inoBits)
	hashedIno  = 1 << 63
	rootIno    = hashedIno | 1
)

func (t *inodeNumbers) init() { t.orders = map[uint64]uint64{} }

func (t *inodeNumbers) of(dev, ino uint64) uint64 {
	order := t.order(dev)
	if order < maxDevices && ino < 1<<inoBits {
		return order<<inoBits | ino
	}
	return mix(dev^mix(ino)) | hashedIno
}

func (t *inodeNumbers) order(dev uint64) uint64 {
	t.mu.RLock()
	order, ok := t.orders[dev]
	t.mu.RUnlock()
	if ok {
		return order
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if order, ok = t.orders[dev]; !ok {
		order = uint64(len(t.orders))
		t.orders[dev] = order
	}
	return order
}

// mix spreads the bits of x over the result, one to one (the finalizer of
// splitmix64).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
