package vmm

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The test binary is the guest's init: as PID 1 it runs the guest half of the
// test that the kernel command line names (an unknown parameter with "=" ends
// up in init's environment).
const guestTestVariable = "MICROVM_GUEST_TEST"

// guestTests are the guest halves by name of their test. What they print the
// host half finds on the console.
var guestTests = map[string]func(){
	"poweroff": func() { fmt.Printf("guest has %d processors\n", runtime.NumCPU()); powerOff() },
	"reboot":   func() { must(unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)) },
	"panic":    func() { os.Exit(3) }, // the death of init is a panic
	"idle":     func() { fmt.Println("guest is idle"); select {} },
	"entropy":  readEntropy,
	"fault":    tripleFault,
}

func TestMain(m *testing.M) {
	if os.Getpid() != 1 {
		os.Exit(m.Run())
	}
	must(os.MkdirAll("/dev", 0o755))
	must(unix.Mount("dev", "/dev", "devtmpfs", 0, ""))
	name := os.Getenv(guestTestVariable)
	run, ok := guestTests[name]
	if !ok {
		run = func() { panic("no guest test " + name) }
	}
	run()
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// outb writes to an I/O port.
func outb(port int64, b byte) {
	f, err := os.OpenFile("/dev/port", os.O_RDWR, 0)
	must(err)
	_, err = f.WriteAt([]byte{b}, port)
	must(err)
}

func powerOff() {
	unix.Sync()
	outb(0x501, 0)
}

func readEntropy() {
	must(os.MkdirAll("/sys", 0o755))
	must(unix.Mount("sys", "/sys", "sysfs", 0, ""))
	name, err := os.ReadFile("/sys/class/misc/hw_random/rng_current")
	must(err)
	fmt.Printf("random numbers come from %s\n", strings.TrimSpace(string(name)))
	f, err := os.Open("/dev/hwrng")
	must(err)
	n, err := f.Read(make([]byte, 64))
	must(err)
	fmt.Printf("read %d bytes\n", n)
	powerOff()
}

// tripleFault makes the kernel reboot by force, as `reboot=t` on the command
// line asks.
func tripleFault() { must(unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)) }
