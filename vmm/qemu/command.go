package qemu

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/microvm/microvm/vmm/virtio"
)

// maxQueue is the largest ring QEMU makes. Its virtio-mmio offers the guest as
// many entries for every ring, whatever the device says.
const maxQueue = 1024

// exitPort is where the guest writes a byte v to switch the machine off; QEMU
// then exits with status v<<1|1.
const exitPort = 0x501

// command is QEMU's command line with the descriptors that it names.
type command struct {
	args  []string
	files []*os.File
}

func (c *command) add(args ...string) { c.args = append(c.args, args...) }

// file hands f down and returns the number it will have in the child.
func (c *command) file(f *os.File) string {
	c.files = append(c.files, f)
	return strconv.Itoa(2 + len(c.files)) // after stdin, stdout and stderr
}

// path hands f down and returns a path to it in the child.
func (c *command) path(f *os.File) string { return "/proc/self/fd/" + c.file(f) }

func (c *command) socket(id string, f *os.File) {
	c.add("-chardev", "socket,id="+id+",fd="+c.file(f))
}

// translationMiB bounds QEMU's cache of translated code, which by default may
// grow to 1 GiB: a host's memory limit for the machine has to have room for it.
const translationMiB = 256

// machine adds what does not depend on devices.
func (c *command) machine(cfg *Config) {
	size := strconv.FormatUint(cfg.MaxMemory, 10)
	cpus := strconv.Itoa(cfg.MaxCPUs)
	c.add("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-S", // until Resume
		"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
		// The PIT calibrates the TSC, and without a clock to read the kernel
		// waits a second for one.
		"-machine", "microvm,pit=on,pic=on,rtc=on,acpi=off,memory-backend=mem",
		"-accel", fmt.Sprintf("tcg,thread=multi,tb-size=%d", translationMiB),
		"-cpu", "max",
		"-smp", "cpus="+cpus+",sockets=1,cores="+cpus+",threads=1",
		"-m", size+"B",
		// Sealed by default, which the vhost-user back end insists on.
		"-object", "memory-backend-memfd,id=mem,size="+size+"B,share=on",
		"-global", "virtio-mmio.force-legacy=false",
		"-device", "virtio-rng-device",
		"-device", "i8042", // takes reboot=k
		"-device", fmt.Sprintf("isa-debug-exit,iobase=%#x,iosize=1", exitPort))
}

// boot adds kernel, initramfs and command line.
func (c *command) boot(cfg *Config) error {
	kernel, err := readable(cfg.Kernel)
	if err != nil {
		return fmt.Errorf("hand guest kernel to QEMU: %w", err)
	}
	c.add("-kernel", c.path(kernel))
	if cfg.Initramfs != nil {
		initramfs, err := readable(cfg.Initramfs)
		if err != nil {
			return fmt.Errorf("hand initramfs to QEMU: %w", err)
		}
		c.add("-initrd", c.path(initramfs))
	}
	c.add("-append", cfg.cmdline())
	return nil
}

// console joins serial port and console device on one pipe. QEMU drops what a
// console prints while its backend is full; a pipe takes many small writes
// where a socket takes few.
func (c *command) console(f *os.File) {
	c.add("-chardev", "file,id=console,append=on,mux=on,path="+c.path(f),
		"-serial", "chardev:console",
		"-device", "virtio-serial-device,max_ports=1",
		"-device", "virtconsole,chardev=console")
}

// monitor adds QMP.
func (c *command) monitor(f *os.File) {
	c.socket("qmp", f)
	c.add("-mon", "chardev=qmp,mode=control")
}

// resetLog has resets of processors logged; a triple fault is named there.
func (c *command) resetLog(f *os.File) { c.add("-d", "cpu_reset", "-D", c.path(f)) }

// device attaches d, which is served at the other end of f.
func (c *command) device(id string, d virtio.Device, f *os.File) error {
	model, err := deviceModel(d)
	if err != nil {
		return err
	}
	c.socket(id, f)
	c.add("-device", model+",chardev="+id)
	return nil
}

// deviceModel is QEMU's front end for d, with its properties.
func deviceModel(d virtio.Device) (string, error) {
	switch d.ID() {
	case virtio.DeviceVsock:
		return "vhost-user-vsock-device", nil
	case virtio.DeviceBlock:
		// The feature would let the guest switch off a cache that is not there.
		return fmt.Sprintf("vhost-user-blk,num-queues=1,queue-size=%d,config-wce=off", min(slices.Min(d.QueueSizes()), maxQueue)), nil
	case virtio.DeviceFS:
		tag, queues := fsConfig(d)
		return fmt.Sprintf("vhost-user-fs-device,tag=%s,num-request-queues=%d,queue-size=%d",
			escape(tag), queues, min(slices.Min(d.QueueSizes()), maxQueue)), nil
	}
	return "", fmt.Errorf("%w: device of type %d can't be attached", ErrConfig, d.ID())
}

// network attaches d, a network device, which is served on the abstract socket
// called name.
func (c *command) network(id string, d virtio.Device, name string) {
	mac, pairs := netConfig(d)
	backend, model := "vhost-user,id=net-"+id+",chardev="+id, "virtio-net-device,netdev=net-"+id+",mac="+mac.String()
	if pairs > 1 {
		backend, model = fmt.Sprintf("%s,queues=%d", backend, pairs), model+",mq=on"
	}
	c.add("-chardev", "socket,id="+id+",path="+name+",abstract=on", "-netdev", backend, "-device", model)
}

// netConfig reads struct virtio_net_config (virtio 1.2, section 5.1.4), which QEMU
// keeps itself. Without several pairs of queues their number is 0.
func netConfig(d virtio.Device) (mac net.HardwareAddr, pairs uint16) {
	var c [10]byte
	d.ReadConfig(0, c[:])
	return c[:6], binary.LittleEndian.Uint16(c[8:])
}

// fsConfig reads struct virtio_fs_config (virtio 1.2, section 5.11.4), which
// QEMU keeps itself.
func fsConfig(d virtio.Device) (tag string, queues uint32) {
	var c [40]byte
	d.ReadConfig(0, c[:])
	return strings.TrimRight(string(c[:36]), "\x00"), binary.LittleEndian.Uint32(c[36:])
}

// escape quotes a value for QEMU's option syntax.
func escape(s string) string { return strings.ReplaceAll(s, ",", ",,") }
