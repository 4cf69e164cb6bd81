package net

import "encoding/binary"

// Sizes in bytes. A header is struct virtio_net_hdr of version 1 (section
// 5.1.6): flags, gso_type, hdr_len, gso_size, csum_start, csum_offset and
// num_buffers.
const (
	headerSize       = 12
	numBuffersOffset = 10

	ethernetHeader = 14
	sourceOffset   = 6 // in an Ethernet header
	// maxFrame is an Ethernet and two VLAN headers before the largest packet
	// of IP.
	maxFrame = ethernetHeader + 2*4 + 65535
)

// plain says that the header asks nothing of who sends the frame.
func plain(header []byte) bool {
	return header[0] == 0 && header[1] == 0
}

func setNumBuffers(header []byte, n int) {
	binary.LittleEndian.PutUint16(header[numBuffersOffset:], uint16(n))
}
