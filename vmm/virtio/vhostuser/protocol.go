package vhostuser

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrProtocol is wrapped by every error that the front end caused by breaking
// the vhost-user protocol.
var ErrProtocol = errors.New("front end broke the vhost-user protocol")

// request is the type of a message ("Front-end message types").
type request uint32

const (
	getFeatures         request = 1  // VHOST_USER_GET_FEATURES
	setFeatures         request = 2  // VHOST_USER_SET_FEATURES
	setOwner            request = 3  // VHOST_USER_SET_OWNER
	resetOwner          request = 4  // VHOST_USER_RESET_OWNER
	setMemTable         request = 5  // VHOST_USER_SET_MEM_TABLE
	setVringNum         request = 8  // VHOST_USER_SET_VRING_NUM
	setVringAddr        request = 9  // VHOST_USER_SET_VRING_ADDR
	setVringBase        request = 10 // VHOST_USER_SET_VRING_BASE
	getVringBase        request = 11 // VHOST_USER_GET_VRING_BASE
	setVringKick        request = 12 // VHOST_USER_SET_VRING_KICK
	setVringCall        request = 13 // VHOST_USER_SET_VRING_CALL
	setVringErr         request = 14 // VHOST_USER_SET_VRING_ERR
	getProtocolFeatures request = 15 // VHOST_USER_GET_PROTOCOL_FEATURES
	setProtocolFeatures request = 16 // VHOST_USER_SET_PROTOCOL_FEATURES
	getQueueNum         request = 17 // VHOST_USER_GET_QUEUE_NUM
	setVringEnable      request = 18 // VHOST_USER_SET_VRING_ENABLE
	getConfig           request = 24 // VHOST_USER_GET_CONFIG
	setConfig           request = 25 // VHOST_USER_SET_CONFIG
)

// Feature bits of the protocol.
const (
	// featureProtocol is VHOST_USER_F_PROTOCOL_FEATURES, in the bits of
	// GET_FEATURES.
	featureProtocol uint64 = 1 << 30

	protocolMQ       uint64 = 1 << 0 // VHOST_USER_PROTOCOL_F_MQ
	protocolReplyAck uint64 = 1 << 3 // VHOST_USER_PROTOCOL_F_REPLY_ACK
	protocolConfig   uint64 = 1 << 9 // VHOST_USER_PROTOCOL_F_CONFIG
)

// Message layout: request, flags and size of the payload, 32 bits each, then
// the payload.
const (
	headerSize = 12

	version       = 1
	versionMask   = 3
	flagReply     = 1 << 2
	flagNeedReply = 1 << 3
)

// Payload sizes in bytes.
const (
	u64Size        = 8
	vringStateSize = 8
	vringAddrSize  = 40
	regionSize     = 32
	maxRegions     = 8
	configHeader   = 12
	maxConfig      = 256 // VHOST_USER_MAX_CONFIG_SIZE
	maxPayload     = configHeader + maxConfig
	maxFDs         = maxRegions
)

// The payload of SET_VRING_KICK, CALL and ERR.
const (
	vringIndexMask = 0xff
	vringNoFD      = 1 << 8 // VHOST_USER_VRING_NOFD_MASK
)

// header starts every message.
type header struct {
	request request
	flags   uint32
	size    uint32
}

// parseHeader decodes b, which has headerSize bytes, and refuses messages of
// another version, replies, and payloads over maxPayload.
func parseHeader(b []byte) (header, error) {
	h := header{
		request: request(binary.NativeEndian.Uint32(b)),
		flags:   binary.NativeEndian.Uint32(b[4:]),
		size:    binary.NativeEndian.Uint32(b[8:]),
	}
	if h.flags&versionMask != version {
		return h, fmt.Errorf("%w: version %d of request %d", ErrProtocol, h.flags&versionMask, h.request)
	}
	if h.flags&flagReply != 0 {
		return h, fmt.Errorf("%w: request %d is flagged as a reply", ErrProtocol, h.request)
	}
	if h.size > maxPayload {
		return h, fmt.Errorf("%w: request %d with a payload of %d bytes", ErrProtocol, h.request, h.size)
	}
	return h, nil
}

// encodeReply makes the reply to r.
func encodeReply(r request, payload []byte) []byte {
	b := make([]byte, headerSize, headerSize+len(payload))
	binary.NativeEndian.PutUint32(b, uint32(r))
	binary.NativeEndian.PutUint32(b[4:], version|flagReply)
	binary.NativeEndian.PutUint32(b[8:], uint32(len(payload)))
	return append(b, payload...)
}

func encodeU64(v uint64) []byte { return binary.NativeEndian.AppendUint64(nil, v) }

// vringState is struct vhost_vring_state.
type vringState struct{ index, num uint32 }

func parseVringState(b []byte) vringState {
	return vringState{binary.NativeEndian.Uint32(b), binary.NativeEndian.Uint32(b[4:])}
}

func (v vringState) encode() []byte {
	return binary.NativeEndian.AppendUint32(binary.NativeEndian.AppendUint32(nil, v.index), v.num)
}

// vringAddr is struct vhost_vring_addr without what only dirty logging needs.
// The addresses are the front end's own.
type vringAddr struct {
	index             uint32
	desc, used, avail uint64
}

func parseVringAddr(b []byte) vringAddr {
	return vringAddr{
		index: binary.NativeEndian.Uint32(b),
		desc:  binary.NativeEndian.Uint64(b[8:]),
		used:  binary.NativeEndian.Uint64(b[16:]),
		avail: binary.NativeEndian.Uint64(b[24:]),
	}
}

// memRegion is one entry of SET_MEM_TABLE.
type memRegion struct {
	guest  uint64 // guest physical address
	size   uint64 // bytes
	user   uint64 // address in the front end
	offset uint64 // bytes into the region's file
}

// parseMemTable decodes the payload of SET_MEM_TABLE.
func parseMemTable(b []byte) ([]memRegion, error) {
	if len(b) < 8 {
		return nil, fmt.Errorf("%w: memory table of %d bytes", ErrProtocol, len(b))
	}
	n := binary.NativeEndian.Uint32(b)
	if n == 0 || n > maxRegions || len(b) < 8+int(n)*regionSize {
		return nil, fmt.Errorf("%w: %d memory regions in %d bytes", ErrProtocol, n, len(b))
	}
	regions := make([]memRegion, n)
	for i := range regions {
		e := b[8+i*regionSize:]
		regions[i] = memRegion{
			guest:  binary.NativeEndian.Uint64(e),
			size:   binary.NativeEndian.Uint64(e[8:]),
			user:   binary.NativeEndian.Uint64(e[16:]),
			offset: binary.NativeEndian.Uint64(e[24:]),
		}
	}
	return regions, nil
}

// configSpace is the payload of GET_CONFIG and SET_CONFIG.
type configSpace struct {
	offset uint32
	flags  uint32
	data   []byte // aliases the message
}

func parseConfigSpace(b []byte) (configSpace, error) {
	if len(b) < configHeader {
		return configSpace{}, fmt.Errorf("%w: configuration message of %d bytes", ErrProtocol, len(b))
	}
	c := configSpace{offset: binary.NativeEndian.Uint32(b), flags: binary.NativeEndian.Uint32(b[8:])}
	size := binary.NativeEndian.Uint32(b[4:])
	if c.offset > maxConfig || size > maxConfig-c.offset || len(b) != configHeader+int(size) {
		return configSpace{}, fmt.Errorf("%w: configuration %d+%d in %d bytes", ErrProtocol, c.offset, size, len(b))
	}
	c.data = b[configHeader:]
	return c, nil
}

func (c configSpace) encode() []byte {
	b := binary.NativeEndian.AppendUint32(nil, c.offset)
	b = binary.NativeEndian.AppendUint32(b, uint32(len(c.data)))
	b = binary.NativeEndian.AppendUint32(b, c.flags)
	return append(b, c.data...)
}
