package virtio

// ReadSpace is [Device.ReadConfig] of a device whose configuration space is
// space.
func ReadSpace(space []byte, offset uint32, p []byte) {
	clear(p)
	if uint64(offset) < uint64(len(space)) {
		copy(p, space[offset:])
	}
}
