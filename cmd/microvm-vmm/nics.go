package main

import (
	"fmt"
	"net"
	"os"

	"github.com/sirupsen/logrus"

	"github.com/microvm/microvm/vmm/control"
	"github.com/microvm/microvm/vmm/virtio"
	virtionet "github.com/microvm/microvm/vmm/virtio/net"
)

// makeNICs makes the network devices, which are attached to nothing yet.
func (d *devices) makeNICs(c *control.Config, log *logrus.Entry) error {
	for i, n := range c.NICs {
		mac, err := parseMAC(n.MAC)
		if err != nil {
			return fmt.Errorf("network device %d: %w", i, err)
		}
		d.nics = append(d.nics, virtionet.New(virtionet.Config{
			MAC: mac, Tap: n.Tap, Pairs: min(n.Pairs, control.MaxPairs), Receive: virtionet.Rate(n.Receive), Send: virtionet.Rate(n.Send),
			Warn: func(err error) { log.WithField("device", fmt.Sprintf("net%d", i)).Warn(err) },
		}))
	}
	return nil
}

func parseMAC(text string) (virtionet.Address, error) {
	mac, err := net.ParseMAC(text)
	if err != nil || len(mac) != 6 {
		return virtionet.Address{}, fmt.Errorf("MAC %q is none of Ethernet", text)
	}
	return virtionet.Address(mac), nil
}

// guestDevices are those that both machines attach to the guest, in order.
func (d *devices) guestDevices() []virtio.Device {
	all := []virtio.Device{d.fs, d.vsock}
	for _, n := range d.nics {
		all = append(all, n)
	}
	if d.disks != nil {
		all = append(all, d.disks)
	}
	return all
}

func (s service) nic(i int) (*virtionet.Device, error) {
	if i < 0 || i >= len(s.devices.nics) {
		return nil, fmt.Errorf("no network device %d: there are %d", i, len(s.devices.nics))
	}
	return s.devices.nics[i], nil
}

// attachNIC joins network device i to copies of the files that came along. With
// froms the guest may send from these addresses only.
func (s service) attachNIC(i int, froms []string, files []*os.File) error {
	n, err := s.nic(i)
	if err != nil {
		return err
	}
	var allowed []virtionet.Address
	for _, text := range froms {
		mac, err := parseMAC(text)
		if err != nil {
			return fmt.Errorf("attach network device %d: %w", i, err)
		}
		allowed = append(allowed, mac)
	}
	return n.Attach(files, allowed...)
}

func (s service) detachNIC(i int) error {
	n, err := s.nic(i)
	if err != nil {
		return err
	}
	return n.Detach()
}
