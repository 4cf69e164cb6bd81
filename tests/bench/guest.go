package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/agent/api"
	"github.com/microvm/microvm/rootfs/guestimage"
)

// What a guest of QEMU is for, as variables on its kernel's command line, which its
// init has in its environment. That is this program, and the guest's only file.
const (
	smallFilesVariable = "BENCH_SMALL_FILES" // to measure a share with that many small files
	addressVariable    = "BENCH_ADDRESS"     // to serve the network's measurements there
)

// inGuest tells whether this process is the init of a guest, and not of a container.
func inGuest() bool { return os.Getpid() == 1 && !slices.Contains(os.Args, "-serve") }

// beInit does what the guest is for.
func beInit() error {
	err := errors.Join(os.MkdirAll("/dev", 0o755), unix.Mount("dev", "/dev", "devtmpfs", 0, ""),
		os.MkdirAll("/proc", 0o755), unix.Mount("proc", "/proc", "proc", 0, ""))
	if err != nil {
		return err
	}
	fmt.Println(guestIsUp)
	if address := os.Getenv(addressVariable); address != "" {
		return guestTraffic(address)
	}
	return guestFiles()
}

// guestIsUp comes before all that a guest prints.
const guestIsUp = "guest is up"

// guestArgs are QEMU's, and what is to follow -append, of a guest whose console is the
// character device called console. Like a guest of ours, it does without mitigations of
// processor faults in software only.
func (b *bench) guestArgs(initramfs, variable string) []string {
	clock, mitigations := "off", "" // KVM's clock is better
	if b.accel == "tcg" {
		clock, mitigations = "on", " mitigations=off"
	}
	return []string{
		"-M", "microvm,pit=" + clock + ",pic=" + clock + ",rtc=" + clock + ",acpi=off,memory-backend=mem,accel=" + b.accel, "-cpu", "max", "-m", "512M",
		"-global", "virtio-mmio.force-legacy=false", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-object", "memory-backend-memfd,id=mem,size=512M,share=on",
		"-device", "virtio-serial-device,max_ports=1", "-device", "virtconsole,chardev=console",
		"-device", "isa-debug-exit,iobase=0x501,iosize=1",
		"-kernel", filepath.Join(b.bin, "vmlinux"), "-initrd", initramfs,
		"-append", "console=hvc0 quiet reboot=t panic=-1 no_timer_check random.trust_cpu=on" + mitigations + " " + variable,
	}
}

// writeInitramfs makes an archive with this program as its only file.
func writeInitramfs(path string) error {
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer self.Close()
	info, err := self.Stat()
	if err != nil {
		return err
	}
	archive, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(guestimage.WriteInitramfs(archive, self, info.Size()), archive.Close())
}

// leaveGuest ends the guest when all that was printed is out.
func leaveGuest() error {
	if err := unix.IoctlSetInt(1, unix.TCSBRK, 1); err != nil {
		return err
	}
	port, err := os.OpenFile("/dev/port", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = port.WriteAt([]byte{0}, api.ExitPort)
	return err
}
