package main

import (
	"testing"

	"github.com/microvm/microvm/vmm/control"
	"github.com/microvm/microvm/vmm/virtio/blk"
	"github.com/microvm/microvm/vmm/x86"
)

// TestSlots fills a machine with network devices and disks.
func TestSlots(t *testing.T) {
	d := &devices{disks: blk.New()}
	c := &control.Config{}
	for range control.SlotsKVM - 1 {
		c.NICs = append(c.NICs, control.NIC{MAC: "02:00:00:00:00:01"})
	}
	if err := d.makeNICs(c, nil); err != nil {
		t.Fatal(err)
	}
	all := append(d.guestDevices(), d.rng, d.console)
	if len(all) != x86.MaxVirtioDevices {
		t.Errorf("%d devices in %d slots", len(all), x86.MaxVirtioDevices)
	}
}
