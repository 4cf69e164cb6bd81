package blk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/vmm/virtio"
	"github.com/microvm/microvm/vmm/virtio/queue"
)

// Types of requests (section 5.2.6).
const (
	requestIn          = 0  // VIRTIO_BLK_T_IN
	requestOut         = 1  // VIRTIO_BLK_T_OUT
	requestFlush       = 4  // VIRTIO_BLK_T_FLUSH
	requestGetID       = 8  // VIRTIO_BLK_T_GET_ID
	requestDiscard     = 11 // VIRTIO_BLK_T_DISCARD
	requestWriteZeroes = 13 // VIRTIO_BLK_T_WRITE_ZEROES
)

// status is the last byte of an answer (section 5.2.6).
type status byte

const (
	statusOK          status = 0 // VIRTIO_BLK_S_OK
	statusIOErr       status = 1 // VIRTIO_BLK_S_IOERR
	statusUnsupported status = 2 // VIRTIO_BLK_S_UNSUPP
)

const (
	headerSize = 16
	rangeSize  = 16
	flagUnmap  = 1 // of a range to write zeroes to
)

// serve does what c asks and writes the status behind the answer. It returns how
// many bytes it wrote. Its error means that c is no request at all.
func (d *Device) serve(c *queue.Chain) (written uint32, err error) {
	var h [headerSize]byte
	if c.Read(h[:], 0) < headerSize {
		return 0, fmt.Errorf("%w: block request with a header of %d bytes", virtio.ErrDevice, c.ReadableLen)
	}
	if c.WritableLen == 0 {
		return 0, fmt.Errorf("%w: block request without room for a status", virtio.ErrDevice)
	}
	room := c.WritableLen - 1
	kind, sector := binary.LittleEndian.Uint32(h[:]), binary.LittleEndian.Uint64(h[8:])
	n, st := d.do(c, kind, sector, room)
	c.Write([]byte{byte(st)}, room) // the last byte, wherever the data ends
	if n == room {
		n++
	}
	return uint32(n), nil
}

// do returns how much of room it has filled.
func (d *Device) do(c *queue.Chain, kind uint32, sector uint64, room int) (int, status) {
	data := c.ReadableLen - headerSize
	switch kind {
	case requestIn:
		if sector <= MaxDisks {
			return d.readLabels(c, sector, room)
		}
		return d.transfer(c.Writable, 0, sector, room, (*disk).read)
	case requestOut:
		return d.transfer(c.Readable, headerSize, sector, data, (*disk).write)
	case requestFlush:
		return 0, result(d.flush())
	case requestGetID:
		var id [serialSize]byte
		copy(id[:], serial)
		return c.Write(id[:min(room, serialSize)], 0), statusOK
	case requestDiscard, requestWriteZeroes:
		return 0, d.clear(c, kind, data)
	}
	return 0, statusUnsupported
}

func (d *Device) readLabels(c *queue.Chain, sector uint64, room int) (int, status) {
	all := d.labels()[sector*LabelSize:]
	if room%sectorSize != 0 || room > len(all) {
		return 0, statusIOErr
	}
	return c.Write(all[:room], 0), statusOK
}

// transfer moves size bytes between bufs, from their offset skip on, and a disk.
func (d *Device) transfer(bufs [][]byte, skip int, sector uint64, size int, move func(k *disk, bufs [][]byte, offset int64) (int, error)) (int, status) {
	if size < 0 || size%sectorSize != 0 {
		return 0, statusIOErr
	}
	k, at := d.hold(sector, uint64(size)/sectorSize)
	if k == nil {
		return 0, statusIOErr
	}
	defer d.let(k)
	offset := int64(at * sectorSize)
	for done := 0; done < size; {
		n, err := move(k, part(bufs, skip+done, size-done), offset+int64(done))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err == nil && n == 0 {
			err = io.ErrUnexpectedEOF // the file was cut short
		}
		if err != nil {
			return done, statusIOErr
		}
		done += n
	}
	return size, statusOK
}

func (k *disk) read(bufs [][]byte, offset int64) (int, error) {
	return unix.Preadv(int(k.File.Fd()), bufs, offset)
}

func (k *disk) write(bufs [][]byte, offset int64) (int, error) {
	if k.ReadOnly {
		return 0, unix.EROFS
	}
	n, err := unix.Pwritev(int(k.File.Fd()), bufs, offset)
	k.dirty.Store(true) // not before: a flush might come between
	return n, err
}

// clear discards the one range of c, or fills it with zeroes.
func (d *Device) clear(c *queue.Chain, kind uint32, data int) status {
	if data != rangeSize {
		return statusUnsupported // max_discard_seg and max_write_zeroes_seg are 1
	}
	var r [rangeSize]byte
	c.Read(r[:], headerSize)
	sector, count := binary.LittleEndian.Uint64(r[:]), uint64(binary.LittleEndian.Uint32(r[8:]))
	flags := binary.LittleEndian.Uint32(r[12:])
	if flags&^flagUnmap != 0 || kind == requestDiscard && flags != 0 {
		return statusUnsupported
	}
	if count > maxRange {
		return statusIOErr
	}
	k, at := d.hold(sector, count)
	if k == nil {
		return statusIOErr
	}
	defer d.let(k)
	mode := uint32(unix.FALLOC_FL_KEEP_SIZE | unix.FALLOC_FL_ZERO_RANGE)
	if kind == requestDiscard || flags&flagUnmap != 0 {
		mode = unix.FALLOC_FL_KEEP_SIZE | unix.FALLOC_FL_PUNCH_HOLE
	}
	return k.clear(mode, int64(at*sectorSize), int64(count*sectorSize))
}

func (k *disk) clear(mode uint32, offset, size int64) status {
	if k.ReadOnly {
		return statusIOErr
	}
	if size == 0 {
		return statusOK
	}
	err := unix.Fallocate(int(k.File.Fd()), mode, offset, size)
	k.dirty.Store(true)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) {
		return statusUnsupported // or only for larger blocks
	}
	return result(err)
}

func result(err error) status {
	if err != nil {
		return statusIOErr
	}
	return statusOK
}

// part cuts size bytes from offset on out of bufs, as far as they go.
func part(bufs [][]byte, offset, size int) (cut [][]byte) {
	for _, b := range bufs {
		if offset >= len(b) {
			offset -= len(b)
			continue
		}
		b = b[offset:]
		offset = 0
		b = b[:min(len(b), size)]
		if len(b) == 0 {
			break
		}
		cut = append(cut, b)
		size -= len(b)
	}
	return cut
}
