package sandbox

import (
	"encoding/json"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/agent/api"
	"github.com/microvm/microvm/vmm/control"
)

// firstFD is where os/exec puts the first of Cmd.ExtraFiles.
const firstFD = 3

// donation is what the VM process is given: files, and the configuration that
// names them by number. The configuration itself is the first file.
type donation struct {
	config control.Config
	files  []*os.File
}

// newDonation opens everything that c names and takes the given files over.
// On failure nothing stays open, except files.
func newDonation(c *Config) (*donation, error) {
	d := &donation{config: control.Config{
		ID: c.ID, Machine: c.Machine, CPUs: c.CPUs, MaxCPUs: c.MaxCPUs,
		Memory: roundUp(c.Memory), MaxMemory: roundUp(c.MaxMemory), Debug: c.Debug,
		Vsock: control.Vsock{GuestCID: api.GuestCID}, NICs: c.nics(),
	}}
	if c.Unmitigated && c.Machine == control.MachineKVM {
		d.config.Cmdline = "mitigations=off"
	}
	if err := d.open(c); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

// roundUp makes full MiB.
func roundUp(bytes uint64) uint64 {
	const mib = 1 << 20
	return (bytes + mib - 1) / mib * mib
}

func (d *donation) open(c *Config) (err error) {
	fd, err := unix.MemfdCreate("microvm-config", unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("create VM configuration: %w", err)
	}
	d.add(os.NewFile(uintptr(fd), "config"))
	if d.config.Kernel, err = d.addPath("guest kernel", c.Kernel, os.O_RDONLY); err != nil {
		return err
	}
	if d.config.Initramfs, err = d.addPath("guest initramfs", c.Initramfs, os.O_RDONLY); err != nil {
		return err
	}
	if c.Machine == control.MachineKVM {
		if d.config.KVM, err = d.addPath("KVM", "/dev/kvm", os.O_RDWR); err != nil {
			return err
		}
	} else {
		d.config.QEMU = c.QEMU
	}
	if err := d.openDisks(c); err != nil {
		return err
	}
	return d.openExports(c.Exports)
}

func (d *donation) openExports(exports []Export) error {
	for _, e := range exports {
		f, x, err := e.open()
		if err != nil {
			return err
		}
		x.FD = d.add(f)
		d.config.Exports = append(d.config.Exports, x)
	}
	return nil
}

// add takes f over and returns its number in the VM process.
func (d *donation) add(f *os.File) int {
	d.files = append(d.files, f)
	return firstFD + len(d.files) - 1
}

func (d *donation) addPath(what, path string, flag int) (int, error) {
	f, err := os.OpenFile(path, flag, 0)
	if err != nil {
		return 0, fmt.Errorf("open %s: %w", what, err)
	}
	return d.add(f), nil
}

// seal writes the configuration; nothing may be added any more.
func (d *donation) seal() error {
	p, err := json.Marshal(&d.config)
	if err != nil {
		return fmt.Errorf("encode VM configuration: %w", err)
	}
	f := d.files[0]
	if _, err := f.Write(p); err != nil {
		return fmt.Errorf("write VM configuration: %w", err)
	}
	if _, err := f.Seek(0, 0); err != nil {
		return fmt.Errorf("write VM configuration: %w", err)
	}
	return nil
}

// close closes this process's copies.
func (d *donation) close() {
	for _, f := range d.files {
		f.Close()
	}
}
