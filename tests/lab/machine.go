package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"

	"github.com/microvm/microvm/tests/lab/guest"
	"github.com/microvm/microvm/tests/lab/wire"
	"golang.org/x/sys/unix"
)

// qemuPath is the emulator; Debian has it in qemu-system-x86.
const qemuPath = "/usr/bin/qemu-system-x86_64"

// kernelCommandLine: reboot=t resets by a triple fault and panic=-1 resets after
// a panic; both end QEMU, which has -no-reboot.
const kernelCommandLine = "console=ttyS0 quiet reboot=t panic=-1 mitigations=off"

// machine is a running virtual machine of the lab.
type machine struct {
	control *os.File // frames both ways
	input   *os.File // frames to the guest
	console *console
	shares  []*share
	qemu    *child
}

// bootMachine starts a virtual machine; the guest waits for its start frame.
func bootMachine(options *Options, kernel Kernel) (_ *machine, err error) {
	m := &machine{console: &console{copy: options.Console}}
	defer func() {
		if err != nil {
			m.close()
		}
	}()
	initramfs, err := makeInitramfs(options.Init, kernel)
	if err != nil {
		return nil, err
	}
	defer initramfs.Close()
	disk, err := newScratchDisk(options.DiskSize)
	if err != nil {
		return nil, err
	}
	defer disk.Close()
	if err := m.startShares(options); err != nil {
		return nil, err
	}
	cmd := m.emulator(options, kernel, initramfs, disk)
	if options.Network.IsValid() {
		tap, err := newNetwork(options.Network)
		if err != nil {
			return nil, err
		}
		defer tap.Close()
		addNetwork(cmd, tap)
	}
	return m, m.startWithPorts(cmd)
}

func (m *machine) startShares(options *Options) error {
	if err := m.addShare(guest.RootTag, "/", "always"); err != nil {
		return err
	}
	if options.OutputDir == "" {
		return nil
	}
	return m.addShare(guest.OutputTag, options.OutputDir, "auto")
}

func (m *machine) addShare(tag, dir, cache string) error {
	s, err := startShare(tag, dir, cache, m.console)
	if err == nil {
		m.shares = append(m.shares, s)
	}
	return err
}

// emulator is the command that is the machine, but for ports and network.
func (m *machine) emulator(options *Options, kernel Kernel, initramfs, disk *os.File) *exec.Cmd {
	cmd := exec.Command(qemuPath,
		"-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "EPYC,+svm,-xsave,check=off",
		"-smp", fmt.Sprint(options.CPUs), "-m", fmt.Sprint(options.MemoryMiB),
		"-object", fmt.Sprintf("memory-backend-memfd,id=mem,size=%dM,share=on", options.MemoryMiB),
		"-numa", "node,memdev=mem",
		"-nodefaults", "-no-user-config", "-nographic", "-no-reboot", "-serial", "stdio",
		"-kernel", kernel.Image, "-append", kernelCommandLine)
	cmd.Stdout, cmd.Stderr = m.console, m.console
	cmd.Args = append(cmd.Args, "-initrd", fmt.Sprintf("/proc/self/fd/%d", passFile(cmd, initramfs)))
	cmd.Args = append(cmd.Args,
		"-drive", fmt.Sprintf("if=none,id=disk,format=raw,cache=unsafe,file=/proc/self/fd/%d", passFile(cmd, disk)),
		"-device", "virtio-blk-pci,drive=disk", "-device", "virtio-serial-pci")
	for _, s := range m.shares {
		cmd.Args = append(cmd.Args,
			"-chardev", fmt.Sprintf("socket,id=%s,fd=%d", s.tag, passFile(cmd, s.socket)),
			"-device", fmt.Sprintf("vhost-user-fs-pci,chardev=%[1]s,tag=%[1]s", s.tag))
	}
	return cmd
}

// addNetwork adds an interface; nothing boots from it.
func addNetwork(cmd *exec.Cmd, tap *os.File) {
	cmd.Args = append(cmd.Args,
		"-netdev", fmt.Sprintf("tap,id=network,fd=%d", passFile(cmd, tap)),
		"-device", "virtio-net-pci,netdev=network,romfile=")
}

// startWithPorts adds the virtio-serial ports and starts the emulator.
func (m *machine) startWithPorts(cmd *exec.Cmd) error {
	ports := []struct {
		name string
		ours **os.File
	}{{wire.ControlPort, &m.control}, {wire.InputPort, &m.input}}
	for _, port := range ports {
		ours, theirs, err := socketPair(port.name)
		if err != nil {
			return err
		}
		defer theirs.Close()
		*port.ours = ours
		cmd.Args = append(cmd.Args,
			"-chardev", fmt.Sprintf("socket,id=%s,fd=%d", port.name, passFile(cmd, theirs)),
			"-device", fmt.Sprintf("virtserialport,chardev=%[1]s,name=%[1]s", port.name))
	}
	qemu, err := startChild(cmd)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: run `lab deps`", err)
	}
	m.qemu = qemu
	return err
}

// close ends everything that belongs to the machine and waits for it. Whatever
// reads or writes the ports gets an error.
func (m *machine) close() {
	if m.qemu != nil {
		m.qemu.kill()
	}
	for _, port := range []*os.File{m.control, m.input} {
		if port != nil {
			port.Close()
		}
	}
	for _, s := range m.shares {
		s.close()
	}
}

// makeInitramfs writes the guest's initramfs into a memfd.
func makeInitramfs(init string, kernel Kernel) (*os.File, error) {
	program, err := readInit(init)
	if err != nil {
		return nil, err
	}
	modules, err := loadOrder(kernel, guestModules)
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("lab-initramfs", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make memfd: %w", err)
	}
	file := os.NewFile(uintptr(fd), "lab-initramfs")
	if err := writeInitramfs(file, program, modules); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}
