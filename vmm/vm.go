package vmm

import (
	"errors"
	"fmt"
	"sync"

	"github.com/sirupsen/logrus"

	"github.com/microvm/microvm/vmm/boot"
	"github.com/microvm/microvm/vmm/bus"
	"github.com/microvm/microvm/vmm/guestmem"
	"github.com/microvm/microvm/vmm/kvm"
	"github.com/microvm/microvm/vmm/virtio"
	"github.com/microvm/microvm/vmm/virtio/mmio"
	"github.com/microvm/microvm/vmm/x86"
)

// Sentinels of the stages of New, joined with the cause.
var (
	ErrMemory  = errors.New("set up guest memory")
	ErrMachine = errors.New("create virtual machine")
	ErrDevices = errors.New("set up devices")
	ErrBoot    = errors.New("load guest kernel")
	ErrCPUs    = errors.New("create processors")
)

// VM is one guest. Run is called at most once.
type VM struct {
	log        *logrus.Entry
	console    *Console
	mem        *guestmem.Memory
	vm         *kvm.VM
	ports      *bus.Bus
	registers  *bus.Bus
	transports []*mmio.Transport
	unread     *virtio.EventFD // rung by acknowledgements
	cpus       []*kvm.VCPU

	once  sync.Once
	exit  Exit
	ended chan struct{} // closed once exit is set
}

// New assembles a guest that is ready to run. Its error joins the sentinel of
// the stage that failed with the cause, or wraps ErrConfig.
func New(c Config) (*VM, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	if c.Log == nil {
		c.Log = discard()
	}
	v := &VM{log: c.Log, console: c.Console, ended: make(chan struct{})}
	if err := v.assemble(&c); err != nil {
		return nil, errors.Join(err, v.Close())
	}
	return v, nil
}

// Run runs the guest until it ends and returns how. When Run returns, no
// processor runs and no device touches the guest's memory.
func (v *VM) Run() Exit {
	var wg sync.WaitGroup
	for _, c := range v.cpus {
		wg.Go(func() { v.runCPU(c) })
	}
	wg.Wait()
	for _, t := range v.transports {
		t.Close()
	}
	<-v.ended
	return v.exit
}

// Close gives back what New took. Run must have returned, or never been
// called.
func (v *VM) Close() error {
	var errs []error
	for _, t := range v.transports {
		t.Close()
	}
	for _, c := range v.cpus {
		errs = append(errs, c.Close())
	}
	if v.vm != nil {
		errs = append(errs, v.vm.Close())
	}
	if v.unread != nil {
		errs = append(errs, v.unread.Close())
	}
	if v.mem != nil {
		errs = append(errs, v.mem.Close())
	}
	return errors.Join(errs...)
}

// assemble runs the stages of New; Close undoes what was done when one fails.
// Reading the kernel takes about as long as making the machine, so that they
// run side by side: they have only the memory in common.
func (v *VM) assemble(c *Config) error {
	ram := x86.RAM(c.Memory)
	if err := v.createMemory(x86.RAM(c.MaxMemory)); err != nil {
		return fmt.Errorf("%w: %w", ErrMemory, err)
	}
	var entry x86.Entry
	loaded := make(chan error, 1)
	go func() {
		var err error
		entry, err = v.load(c, ram)
		loaded <- err
	}()
	machine := v.createHardware(c)
	if err := <-loaded; err != nil {
		return errors.Join(machine, fmt.Errorf("%w: %w", ErrBoot, err))
	}
	if machine != nil {
		return machine
	}
	if err := x86.SetEntry(v.cpus[0], entry); err != nil {
		return fmt.Errorf("%w: %w", ErrCPUs, err)
	}
	return nil
}

// createHardware makes everything but the memory and its contents.
func (v *VM) createHardware(c *Config) error {
	if err := v.createMachine(c.KVM); err != nil {
		return fmt.Errorf("%w: %w", ErrMachine, err)
	}
	if err := v.attachDevices(c); err != nil {
		return fmt.Errorf("%w: %w", ErrDevices, err)
	}
	if err := v.createCPUs(c); err != nil {
		return fmt.Errorf("%w: %w", ErrCPUs, err)
	}
	return nil
}

func (v *VM) createMemory(ram []guestmem.Range) (err error) {
	v.mem, err = guestmem.Allocate("guest-memory", ram)
	return err
}

func (v *VM) createMachine(system *kvm.System) (err error) {
	if v.vm, err = system.CreateVM(); err != nil {
		return err
	}
	for slot, r := range v.mem.Regions() {
		if err := v.vm.SetMemory(uint32(slot), r.Base, r.Data); err != nil {
			return err
		}
	}
	if err := v.vm.SetIdentityMapAddr(x86.IdentityMapAddr); err != nil {
		return err
	}
	if err := v.vm.SetTSSAddr(x86.TSSAddr); err != nil {
		return err
	}
	if err := v.vm.CreateIRQChip(); err != nil {
		return err
	}
	return v.vm.CreatePIT2()
}

// load puts kernel, initramfs and tables into memory and returns how the first
// processor enters the kernel. The others wait for it, as their local APICs do
// after power-on.
func (v *VM) load(c *Config, ram []guestmem.Range) (x86.Entry, error) {
	kernel, err := boot.Load(v.mem, c.Kernel)
	if err != nil {
		return x86.Entry{}, err
	}
	params := boot.Params{Cmdline: c.cmdline(), RAM: ram}
	if c.Initramfs != nil {
		info, err := c.Initramfs.Stat()
		if err != nil {
			return x86.Entry{}, fmt.Errorf("size of initramfs: %w", err)
		}
		params.Initramfs = boot.Image{ReaderAt: c.Initramfs, Size: info.Size()}
	}
	entry, err := boot.Place(v.mem, kernel, params)
	if err != nil {
		return x86.Entry{}, err
	}
	if err := x86.WriteMPTable(v.mem, c.MaxCPUs); err != nil {
		return x86.Entry{}, err
	}
	return entry, x86.WriteEntryTables(v.mem, entry)
}
