package net

import (
	"encoding/binary"
	"fmt"

	"github.com/microvm/microvm/vmm/virtio"
	"github.com/microvm/microvm/vmm/virtio/queue"
)

// The control queue (section 5.1.6.5) takes struct virtio_net_ctrl: a class and a
// command of a byte each, the command's data, and a byte for the answer.
const (
	controlSize   = 64
	controlHeader = 2

	classMQ    = 4 // VIRTIO_NET_CTRL_MQ
	setPairs   = 0 // VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, data is their number (le16)
	setPairsOf = controlHeader + 2

	answerOK    = 0
	answerError = 1
)

// controlQueue is the driver's control queue, or nil: a front end that obeys
// commands itself keeps it.
func (d *Device) controlQueue() *virtio.Queue {
	if d.active.Features&featureCtrlVQ == 0 {
		return nil
	}
	pairs := 1
	if d.active.Features&featureMQ != 0 {
		pairs = d.config.Pairs
	}
	return d.active.Queue(queuesOfPair * pairs)
}

// answer carries one command out.
func (d *Device) answer(c *queue.Chain) (written uint32, err error) {
	if c.WritableLen < 1 {
		return 0, fmt.Errorf("network command without room for an answer: %w", virtio.ErrDevice)
	}
	answer := byte(answerError)
	var command [setPairsOf]byte
	if c.ReadableLen == len(command) {
		c.Read(command[:], 0)
		if command[0] == classMQ && command[1] == setPairs && d.use(int(binary.LittleEndian.Uint16(command[controlHeader:]))) {
			answer = answerOK
		}
	}
	c.Write([]byte{answer}, 0)
	return 1, nil
}

// use has the driver use its first n pairs, and tells whether it may.
func (d *Device) use(n int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n < 1 || n > d.config.Pairs || d.active == nil || d.active.Features&featureMQ == 0 {
		return false
	}
	if n == d.wanted {
		return true
	}
	d.wanted = n
	if err := d.settle(); err != nil {
		d.config.Warn(err)
		return false
	}
	return true
}
