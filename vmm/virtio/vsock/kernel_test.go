package vsock_test

import (
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/microvm/microvm/vmm"
	"github.com/microvm/microvm/vmm/boot/boottest"
	"github.com/microvm/microvm/vmm/control"
	"github.com/microvm/microvm/vmm/kvm/kvmtest"
	"github.com/microvm/microvm/vmm/qemu"
	"github.com/microvm/microvm/vmm/virtio"
	"github.com/microvm/microvm/vmm/virtio/console"
	"github.com/microvm/microvm/vmm/virtio/rng"
	"github.com/microvm/microvm/vmm/virtio/vsock"
	"github.com/microvm/microvm/vmm/virtio/vsock/vsocktest"
)

// The test binary is the guest's init.
func TestMain(m *testing.M) {
	if os.Getpid() == 1 {
		vsocktest.Guest()
	}
	os.Exit(m.Run())
}

// tryGuest runs the host's half against a guest that is being started and uses
// the device, then switches it off.
func tryGuest(t *testing.T, d *vsock.Device, ready net.Conn) {
	t.Helper()
	ready.SetReadDeadline(time.Now().Add(time.Minute))
	if got, err := io.ReadAll(io.LimitReader(ready, int64(len(vsocktest.Ready)))); string(got) != vsocktest.Ready {
		t.Fatalf("guest said %q: %v", got, err)
	}
	path := (&guest{t: t, dev: d}).serve()
	toGuest := func(port uint32) (*net.UnixConn, error) { return dial(path, port) }
	vsocktest.Run(t, toGuest)
	if n := d.Faults(); len(n) != 0 {
		t.Errorf("an honest guest broke rules: %v", n)
	}
	if c, err := toGuest(vsocktest.OffPort); err == nil {
		c.Close()
	}
}

// newDevice makes a device whose guest can dial vsocktest.ReadyPort.
func newDevice(t *testing.T) (*vsock.Device, net.Conn) {
	mine, theirs := socketpair(t)
	d := vsock.New(vsock.Config{GuestCID: guestCID, Dial: func(port uint32) (*net.UnixConn, error) {
		if port != vsocktest.ReadyPort {
			return nil, net.ErrClosed
		}
		return theirs, nil
	}})
	t.Cleanup(func() { d.Close() })
	return d, mine
}

func TestKernelOnSoftwareMachine(t *testing.T) {
	if os.Getenv(kvmtest.Environment) == "required" {
		t.Skip("this run is for KVM")
	}
	kernel := boottest.Kernel(t)
	d, ready := newDevice(t)
	out := new(vmmConsole)
	m, err := qemu.Start(qemu.Config{
		CPUs: 2, Memory: 256 << 20, Kernel: kernel, Initramfs: boottest.Initramfs(t),
		Devices: []virtio.Device{d}, Console: out,
	})
	if err != nil {
		t.Fatal(err)
	}
	m.Settle()
	m.Resume()
	defer func() {
		timer := time.AfterFunc(10*time.Second, m.Stop)
		defer timer.Stop()
		if reason, err := m.Wait(); reason != control.ReasonPowerOff {
			t.Errorf("guest ended with %q: %v", reason, err)
		}
		t.Logf("console:\n%s", out.Bytes())
	}()
	tryGuest(t, d, ready)
}

func TestKernelOnKVM(t *testing.T) {
	kernel := boottest.Kernel(t)
	d, ready := newDevice(t)
	out := new(vmm.Console)
	vm, err := vmm.New(vmm.Config{
		KVM: kvmtest.RequireHardware(t), CPUs: 2, Memory: 256 << 20, Kernel: kernel, Initramfs: boottest.Initramfs(t),
		Devices: []virtio.Device{console.New(out), rng.New(), d}, Console: out,
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan vmm.Exit, 1)
	go func() { ended <- vm.Run() }()
	defer func() {
		timer := time.AfterFunc(10*time.Second, vm.Stop)
		defer timer.Stop()
		if exit := <-ended; exit.Reason != control.ReasonPowerOff {
			t.Errorf("guest ended with %q: %v", exit.Reason, exit.Err)
		}
		t.Logf("console:\n%s", out.Bytes())
		vm.Close()
	}()
	tryGuest(t, d, ready)
}

// vmmConsole is a console for the software machine.
type vmmConsole struct{ vmm.Console }

func (*vmmConsole) Panicked() bool { return false }
