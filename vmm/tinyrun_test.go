package vmm

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/microvm/microvm/vmm/boot"
	"github.com/microvm/microvm/vmm/boot/boottest"
	"github.com/microvm/microvm/vmm/control"
	"github.com/microvm/microvm/vmm/kvm"
	"github.com/microvm/microvm/vmm/virtio"
	"github.com/microvm/microvm/vmm/virtio/rng"
	"github.com/microvm/microvm/vmm/x86"
)

func TestTinyGuestEnds(t *testing.T) {
	const undefined = "\x0f\x0b" // ud2, and there is no table of handlers
	for _, test := range []struct {
		name   string
		code   program
		reason string
	}{
		{"power-off", program{}.off(), control.ReasonPowerOff},
		{"reset", program{}.outb(0x64, 0xfe).forever(), control.ReasonReset},
		{"panic", program{}.print("Kernel panic - not syncing: no reason\n").outb(0x64, 0xfe).forever(), control.ReasonPanic},
		{"triple fault", program(undefined), control.ReasonTripleFault},
	} {
		t.Run(test.name, func(t *testing.T) {
			if e := newTiny(t, tinyConfig(t, test.code)).Run(); e.Reason != test.reason || e.Err != nil {
				t.Errorf("ended with %+v, want %s", e, test.reason)
			}
		})
	}
}

func TestStopEndsAnyGuest(t *testing.T) {
	for name, code := range map[string]program{
		"spinning":       program{}.print("x").forever(),
		"halted":         append(program{}.print("x"), 0xfa, 0xf4), // cli; hlt
		"storm of exits": append(program{}.print("x"), 0xeb, 0xf7), // again
		"endless string": program{}.print("x").stringOut(0x80, 0, 1<<32-1).forever(),
	} {
		t.Run(name, func(t *testing.T) {
			c := tinyConfig(t, code)
			c.CPUs = 2 // the second waits for ever
			vm := newTiny(t, c)
			go func() {
				for len(c.Console.Bytes()) == 0 {
					time.Sleep(time.Millisecond)
				}
				vm.Stop()
				vm.Stop()
			}()
			if e := vm.Run(); e.Reason != control.ReasonStopped {
				t.Errorf("ended with %+v", e)
			}
		})
	}
}

// stuck is a device whose Reset waits for release.
type stuck struct {
	virtio.Device
	release chan struct{}
}

func (s stuck) Activate(virtio.Activation) error { return nil }
func (s stuck) Reset()                           { <-s.release }

// How a VM ended is known while a device still holds Run up.
func TestEndIsKnownBeforeDevicesStop(t *testing.T) {
	slot := uint32(x86.VirtioBase)
	code := program{}.store(slot+0x70, 1).store(slot+0x70, 3).store(slot+0x24, 1).store(slot+0x20, 1)
	code = code.store(slot+0x70, 11).store(slot+0x70, 15) // up to DRIVER_OK
	c := tinyConfig(t, code.off())
	dev := stuck{rng.New(), make(chan struct{})}
	c.Devices = []virtio.Device{dev}
	vm := newTiny(t, c)
	done := make(chan Exit, 1)
	go func() { done <- vm.Run() }()
	<-vm.Ended()
	if e := vm.End(); e.Reason != control.ReasonPowerOff {
		t.Errorf("ended with %+v", e)
	}
	close(dev.release)
	if e := <-done; e.Reason != control.ReasonPowerOff {
		t.Errorf("Run returned %+v", e)
	}
}

func TestStopBeforeRun(t *testing.T) {
	vm := newTiny(t, tinyConfig(t, program{}.forever()))
	vm.Stop()
	if e := vm.Run(); e.Reason != control.ReasonStopped {
		t.Errorf("ended with %+v", e)
	}
}

func TestCloseWithoutRun(t *testing.T) {
	newTiny(t, tinyConfig(t, program{}.off()))
}

// Unknown ports and addresses read as all ones, and writing to them does
// nothing.
// TestStringIO has a guest move many bytes in one instruction: from memory, from where
// there is none, over the end of memory, and from ports that two devices share.
func TestStringIO(t *testing.T) {
	const here, nowhere = 0x20_0000, 0xd100_0000
	code := program{}.store(here, 0x6f6c6568).stringOut(0x3f8, here, 4)
	code = code.stringIn(0x3fd, here, 70).sendByteAt(here)
	code = code.stringOut(0x3f8, nowhere, 3)
	code = code.stringIn(0x60, MinMemory-8, 5).off()
	c := tinyConfig(t, code)
	vm := newTiny(t, c)
	if e := vm.Run(); e.Reason != control.ReasonPowerOff || e.Err != nil {
		t.Errorf("ended with %+v", e)
	}
	if got := c.Console.Bytes(); !bytes.Equal(got, []byte("helo\xff\xff\xff\xff")) {
		t.Errorf("guest read %q", got)
	}
	if n := vm.ports.Unknown(); n != 70 {
		t.Errorf("%d accesses to unknown ports, want 70", n)
	}
	if n := vm.registers.Unknown(); n < 4 { // 3 reads, and a write at least
		t.Errorf("%d accesses to unknown addresses", n)
	}
}

func TestUnknownHardware(t *testing.T) {
	code := program{}.outb(0x70, 1).sendByteFrom(0x71).sendByteFrom(0xcf8)
	code = code.store(0xd100_0000, 1).sendByteAt(0xd100_0000).off()
	c := tinyConfig(t, code)
	vm := newTiny(t, c)
	vm.Run()
	if got := c.Console.Bytes(); !bytes.Equal(got, []byte{0xff, 0xff, 0xff}) {
		t.Errorf("guest read %x", got)
	}
	if n := vm.ports.Unknown(); n != 3 {
		t.Errorf("%d accesses to unknown ports, want 3", n)
	}
	if n := vm.registers.Unknown(); n != 2 {
		t.Errorf("%d accesses to unknown addresses, want 2", n)
	}
}

func TestGuestReadsVirtioRegisters(t *testing.T) {
	slot := uint32(x86.VirtioBase)
	code := program{}.sendByteAt(slot + 0x1000).off()
	// Only 4-byte reads get an answer: mov eax, [addr]; mov dx, 0x3f8; out dx, al.
	code = append(program{0xa1, 0, 0, 0, 0xd0, 0x66, 0xba, 0xf8, 0x03, 0xee}, code...)
	c := tinyConfig(t, code)
	c.Devices = []virtio.Device{rng.New()}
	newTiny(t, c).Run()
	if got := string(c.Console.Bytes()); got != "v\xff" {
		t.Errorf("guest read %q, want the first byte of the magic, then nothing in the next slot", got)
	}
}

// A guest finds its start information in EBX.
func TestPVHEntryState(t *testing.T) {
	code := program{
		0x8b, 0x03, // mov eax, [ebx]
		0x66, 0xba, 0xf8, 0x03, 0xee, // mov dx, 0x3f8; out dx, al
	}
	c := tinyConfig(t, code.off())
	newTiny(t, c).Run()
	if got := c.Console.Bytes(); !bytes.Equal(got, []byte{0x78}) {
		t.Errorf("guest read %x, want the first byte of the magic", got)
	}
}

// Without a PVH note a guest starts in 64-bit mode, with its start information
// in RSI, a stack and the first 4 GiB mapped to themselves.
func TestSixtyFourBitEntryState(t *testing.T) {
	code := program{
		0x8b, 0x86, 0x02, 0x02, 0, 0, // mov eax, [rsi+0x202]
		0x50,                               // push rax
		0x48, 0xb9, 0, 0, 0, 0, 1, 0, 0, 0, // mov rcx, 1<<32: no such instruction in 32-bit mode
		0x48, 0x83, 0xe9, 0x08, // sub rcx, 8
		0x48, 0x8b, 0x09, // mov rcx, [rcx]: the last word below 4 GiB
		0x58,                         // pop rax
		0x66, 0xba, 0xf8, 0x03, 0xee, // mov dx, 0x3f8; out dx, al
	}
	c := imageConfig(t, boottest.Image{Code: code.off()})
	vm := newTiny(t, c)
	if e := vm.Run(); e.Reason != control.ReasonPowerOff {
		t.Errorf("ended with %+v", e)
	}
	if got := string(c.Console.Bytes()); got != "H" {
		t.Errorf("guest read %q, want the first byte of the signature", got)
	}
	if n := vm.registers.Unknown(); n != 1 {
		t.Errorf("%d accesses to unknown addresses, want 1", n)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no processor":        func(c *Config) { c.CPUs = 0 },
		"too many processors": func(c *Config) { c.CPUs = 100000 },
		"little memory":       func(c *Config) { c.Memory = 1 << 20 },
		"odd memory":          func(c *Config) { c.Memory += 4096 },
		"no kernel":           func(c *Config) { c.Kernel = nil },
		"too many devices": func(c *Config) {
			for range x86.MaxVirtioDevices + 1 {
				c.Devices = append(c.Devices, rng.New())
			}
		},
	} {
		c := tinyConfig(t, program{}.off())
		change(&c)
		if _, err := New(c); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The error of New names the stage and the cause.
func TestStagesOfNew(t *testing.T) {
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if _, err := kvm.Open(null); !errors.Is(err, kvm.ErrUnusable) {
		t.Errorf("KVM: %v", err)
	}
	c := tinyConfig(t, program{}.off())
	c.Kernel, err = os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Kernel.Close()
	if _, err := New(c); !errors.Is(err, ErrBoot) || !errors.Is(err, boot.ErrKernel) {
		t.Errorf("kernel: %v", err)
	}
	c = tinyConfig(t, program{}.off())
	c.Cmdline = strings.Repeat("x", 4096)
	if _, err := New(c); !errors.Is(err, ErrBoot) {
		t.Errorf("command line: %v", err)
	}
	c = tinyConfig(t, program{}.off())
	c.Initramfs, err = os.CreateTemp(t.TempDir(), "initramfs")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Initramfs.Close()
	if err := c.Initramfs.Truncate(MinMemory); err != nil {
		t.Fatal(err)
	}
	if _, err := New(c); !errors.Is(err, ErrBoot) || !errors.Is(err, boot.ErrMemory) {
		t.Errorf("initramfs: %v", err)
	}
}

func TestNothingIsLeft(t *testing.T) {
	count := func() int {
		d, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(d)
	}
	c := tinyConfig(t, program{}.off())
	c.CPUs = 3
	run := func() {
		c.Devices = []virtio.Device{rng.New(), rng.New()}
		vm, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		vm.Run()
		if err := vm.Close(); err != nil {
			t.Error(err)
		}
	}
	run() // what the runtime opens once
	before := count()
	for range 10 {
		run()
	}
	if after := count(); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}
