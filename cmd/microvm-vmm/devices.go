package main

import (
	"fmt"
	"net"
	"os"

	"github.com/sirupsen/logrus"

	"github.com/microvm/microvm/rootfs/export"
	"github.com/microvm/microvm/vmm"
	"github.com/microvm/microvm/vmm/control"
	"github.com/microvm/microvm/vmm/virtio/blk"
	"github.com/microvm/microvm/vmm/virtio/console"
	"github.com/microvm/microvm/vmm/virtio/fs"
	virtionet "github.com/microvm/microvm/vmm/virtio/net"
	"github.com/microvm/microvm/vmm/virtio/rng"
	"github.com/microvm/microvm/vmm/virtio/vsock"
)

// fsTag is the name that the guest mounts the exports by.
const fsTag = "exports"

// inodeMemory is about what Linux takes of a guest's memory for a file that it knows, in
// bytes. One that knows more of them than fit there is up to something.
const inodeMemory = 1 << 10

// agentThread is the guest's PID 1, the agent's main thread.
const agentThread = 1

// devices are the machine's, and what is behind them.
type devices struct {
	files    *export.Server
	fs       *fs.Device
	vsock    *vsock.Device
	listener *net.UnixListener
	nics     []*virtionet.Device
	disks    *blk.Device // nil if there are none, and never will be
	rng      *rng.Device
	console  *console.Device
}

// newDevices makes the devices on the descriptors that c names.
func newDevices(c *control.Config, ring *vmm.Console, log *logrus.Entry) (*devices, error) {
	d := &devices{rng: rng.New(), console: console.New(ring)}
	for _, build := range []func(*control.Config, *logrus.Entry) error{d.openExports, d.openVsock, d.makeNICs, d.openDisks} {
		if err := build(c, log); err != nil {
			return nil, err
		}
	}
	return d, nil
}

func (d *devices) openExports(c *control.Config, log *logrus.Entry) (err error) {
	files := log.WithField("device", "fs")
	known := int(max(c.Memory, c.MaxMemory) / inodeMemory)
	if d.files, err = export.NewServer(export.Options{Agent: agentThread, Submounts: true, Known: known, Logf: files.Warnf}); err != nil {
		return err
	}
	if d.fs, err = fs.New(d.files, fs.Options{Tag: fsTag}); err != nil {
		return err
	}
	for _, e := range c.Exports {
		f, err := openFile(e.FD, "export "+e.Name)
		if err != nil {
			return err
		}
		err = d.addExport(e, f)
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// addExport shows f to the guest; f stays the caller's.
func (d *devices) addExport(e control.Export, f *os.File) error {
	cache, err := export.ParseCache(e.Cache)
	if err != nil {
		return fmt.Errorf("add export %q: %w", e.Name, err)
	}
	return d.files.AddExport(e.Name, f, export.Policy{ReadOnly: e.ReadOnly, OneDevice: e.OneDevice, Cache: cache})
}

func (d *devices) openVsock(c *control.Config, log *logrus.Entry) error {
	outbound := make(map[uint32]*os.File)
	for port, fd := range c.Vsock.Outbound {
		f, err := openFile(fd, fmt.Sprintf("vsock port %d", port))
		if err != nil {
			return err
		}
		outbound[port] = f
	}
	d.vsock = vsock.New(vsock.Config{
		GuestCID: c.Vsock.GuestCID,
		Dial:     vsock.Outbound(outbound),
		Warn:     func(err error) { log.WithField("device", "vsock").WithError(err).Warn("guest broke the protocol") },
	})
	if c.Vsock.Listener == 0 {
		return nil
	}
	f, err := openFile(c.Vsock.Listener, "vsock listener")
	if err != nil {
		return err
	}
	if d.listener, err = unixListener(f); err != nil {
		return fmt.Errorf("vsock listener: %w", err)
	}
	return nil
}

// listen serves the host's clients.
func (d *devices) listen(log *logrus.Entry) {
	if d.listener == nil {
		return
	}
	if err := d.vsock.Serve(d.listener); err != nil {
		log.WithError(err).Error("vsock listener broke down")
	}
}
