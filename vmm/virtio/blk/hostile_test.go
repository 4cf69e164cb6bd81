package blk

import (
	"bytes"
	"os"
	"testing"

	"github.com/microvm/microvm/vmm/virtio"
	"github.com/microvm/microvm/vmm/virtio/queue/queuetest"
)

// TestFloodOfFlushes keeps the ring full of them.
func TestFloodOfFlushes(t *testing.T) {
	g := newGuest(t, false)
	const answers = 2 << 20
	copy(g.drv.Bytes(3<<20, headerSize), request(requestFlush, 0))
	for round := range 50 {
		g.do(request(requestOut, 0, make([]byte, sectorSize)...), 0) // something to flush
		for i := range uint16(queueSize / 2) {
			g.drv.SetDesc(2*i, 3<<20, headerSize, queuetest.Next, 2*i+1)
			g.drv.SetDesc(2*i+1, answers+uint64(i), 1, queuetest.Write, 0)
			g.drv.Bytes(answers+uint64(i), 1)[0] = 0xee
		}
		copy(g.drv.Bytes(3<<20, headerSize), request(requestFlush, 0))
		for i := range uint16(queueSize / 2) {
			g.drv.Publish(2 * i)
		}
		g.drv.Kick()
		for range queueSize / 2 {
			g.drv.WaitUsed()
		}
		if got := g.drv.Bytes(answers, queueSize/2); !bytes.Equal(got, make([]byte, queueSize/2)) {
			t.Fatalf("round %d: statuses % x", round, got)
		}
	}
}

// TestContentIsNeverInterpreted gives the device disks that look like images of
// other formats, which name other files: they are their bytes.
func TestContentIsNeverInterpreted(t *testing.T) {
	// A qcow2 header with the name of a backing file at 104.
	qcow := append([]byte("QFI\xfb\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00\x68\x00\x00\x00\x0b"), make([]byte, 84)...)
	for name, head := range map[string]string{
		"qcow2":  string(qcow) + "/etc/passwd",
		"vmdk":   "# Disk DescriptorFile\nRW 1 FLAT \"/etc/passwd\" 0\n",
		"vhd":    "conectix",
		"vhdx":   "vhdxfile",
		"luks":   "LUKS\xba\xbe\x00\x02",
		"script": "#!/bin/sh\n",
	} {
		t.Run(name, func(t *testing.T) {
			content := append([]byte(head), bytes.Repeat([]byte{0x5a}, 4*sectorSize-len(head))...)
			f := newFile(t, string(content))
			path := f.Name()
			g := &guest{t: t, dev: New(), file: path, failed: make(chan error, 1)}
			if err := g.dev.Add(Disk{Name: name, File: f}); err != nil {
				t.Fatal(err)
			}
			g.drv = queuetest.New(t, queuetest.Memory(t, 4<<20), 0x1000, queueSize, 1<<20)
			if err := g.dev.Activate(virtio.Activation{
				Memory: g.drv.Mem, Features: virtio.TransportFeatures,
				Queues: []*virtio.Queue{g.drv.Activated()}, Fail: func(err error) { g.failed <- err },
			}); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(g.dev.Reset)
			if got, st := g.do(request(requestIn, 0), 4*sectorSize); st != statusOK || !bytes.Equal(got, content) {
				t.Errorf("status %d, read %q", st, got[:32])
			}
			if _, st := g.do(request(requestIn, 4), sectorSize); st != statusIOErr {
				t.Errorf("behind the file: status %d", st)
			}
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, content) {
				t.Errorf("changed, %v", err)
			}
		})
	}
}
