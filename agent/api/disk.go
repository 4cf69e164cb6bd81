package api

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// What the guest finds disks by. They are all on one block device, whose own
// serial is DisksSerial: disk n is at byte n*DiskStride, and sector n, of DiskLabelSize
// bytes, is its label. Sectors of what is no disk are zeroes.
const (
	DisksSerial   = "disks"
	MaxDisks      = 255
	DiskStride    = 1 << 54
	DiskLabelSize = 512
)

// DiskLabel is what the guest is told about one of its disks.
type DiskLabel struct {
	// Serial is the name in DisksDir of one that is mounted, or made by
	// DeviceSerial for one that is a device of a container.
	Serial string `json:"serial"`
	// Size is in bytes, a multiple of 512.
	Size     int64 `json:"size"`
	ReadOnly bool  `json:"readOnly,omitempty"`
}

// Marshal encodes l for its sector.
func (l *DiskLabel) Marshal() ([]byte, error) {
	p, err := json.Marshal(l)
	if err == nil && len(p) > DiskLabelSize {
		err = fmt.Errorf("serial %q is too long", l.Serial)
	}
	if err != nil {
		return nil, fmt.Errorf("encode label of disk: %w", err)
	}
	return p, nil
}

// Unmarshal decodes a sector. It is ok if that is a label.
func (l *DiskLabel) Unmarshal(sector []byte) (ok bool) {
	*l = DiskLabel{}
	return json.Unmarshal(bytes.TrimRight(sector, "\x00"), l) == nil && l.Serial != ""
}
