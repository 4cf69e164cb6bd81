package qemu

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The test binary is the guest's init: as PID 1 it runs the guest half of the
// test that the kernel command line names (an unknown parameter with "=" ends
// up in init's environment).
const guestTestVariable = "MICROVM_GUEST_TEST"

// guestTests are the guest halves by name of their test. What they print, the
// host half finds on the console.
var guestTests = map[string]func(){
	"poweroff":    func() { fmt.Printf("guest has %d processors\n", runtime.NumCPU()); powerOff(0) },
	"poweroff 42": func() { powerOff(42) },
	"reboot":      func() { must(unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)) },
	"panic":       func() { os.Exit(3) }, // the death of init is a panic
	"idle":        func() { fmt.Println("guest is idle"); select {} },
	"flood":       flood,
	"entropy":     readEntropy,
	"clock":       readClock,
	"files":       useFiles,
	"streams":     useStreams,
}

func TestMain(m *testing.M) {
	if os.Getpid() != 1 {
		os.Exit(m.Run())
	}
	must(os.MkdirAll("/dev", 0o755))
	must(unix.Mount("dev", "/dev", "devtmpfs", 0, ""))
	name := strings.ReplaceAll(os.Getenv(guestTestVariable), "_", " ")
	run, ok := guestTests[name]
	if !ok {
		run = func() { panic("no guest test " + name) }
	}
	run()
	fmt.Println("guest is done")
	powerOff(0)
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// powerOff writes code to the exit port, when all that was printed is out.
func powerOff(code byte) {
	// Go's scheduler interrupts a drain that takes long.
	err := error(unix.EINTR)
	for errors.Is(err, unix.EINTR) {
		err = unix.IoctlSetInt(1, unix.TCSBRK, 1)
	}
	must(err)
	f, err := os.OpenFile("/dev/port", os.O_RDWR, 0)
	must(err)
	_, err = f.WriteAt([]byte{code}, exitPort)
	must(err)
	select {}
}

// flood prints floodLines lines of 1 KiB.
func flood() {
	line := strings.Repeat("0123456789abcdef", 64) + "\n"
	for range floodLines {
		fmt.Print(line)
	}
}

func readEntropy() {
	f, err := os.Open("/dev/hwrng")
	must(err)
	n, err := io.ReadFull(f, make([]byte, 64))
	must(err)
	fmt.Printf("read %d random bytes\n", n)
}

func readClock() {
	must(os.MkdirAll("/sys", 0o755))
	must(unix.Mount("sys", "/sys", "sysfs", 0, ""))
	source, err := os.ReadFile("/sys/devices/system/clocksource/clocksource0/current_clocksource")
	must(err)
	fmt.Printf("clock source %s", source)
	fmt.Printf("time %d\n", time.Now().Unix())
}

// useFiles works on the share; the host half checks what it leaves there.
func useFiles() {
	const dir = "/mnt/data"
	must(os.MkdirAll("/mnt", 0o755))
	must(unix.Mount("exports", "/mnt", "virtiofs", 0, ""))
	entries, err := os.ReadDir("/mnt")
	must(err)
	for _, e := range entries {
		fmt.Printf("export %s\n", e.Name())
	}
	text, err := os.ReadFile(dir + "/hello")
	must(err)
	fmt.Printf("read %q\n", text)
	must(os.WriteFile(dir+"/answer", []byte("from the guest"), 0o640))
	must(os.MkdirAll(dir+"/a/b", 0o755))
	must(os.Symlink("../answer", dir+"/a/link"))
	must(os.Rename(dir+"/a/link", dir+"/a/b/moved"))
	if err := os.WriteFile("/mnt/fixed/x", nil, 0o644); !errors.Is(err, syscall.EROFS) {
		panic(fmt.Sprintf("write to a read-only export: %v", err))
	}
	copyBig(dir+"/big", dir+"/copy")
	must(unix.Unmount("/mnt", 0))
}

// copyBig copies a file and prints its sum.
func copyBig(from, to string) {
	in, err := os.Open(from)
	must(err)
	defer in.Close()
	out, err := os.Create(to)
	must(err)
	sum := sha256.New()
	n, err := io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(out, sum)}, struct{ io.Reader }{in}, make([]byte, 1<<20))
	must(err)
	must(out.Close())
	fmt.Printf("copied %d bytes, sum %x\n", n, sum.Sum(nil))
}

const (
	hostCID   = 2
	readyPort = 1024
	echoPort  = 1025
)

// useStreams dials the host, then echoes one connection of the host's.
func useStreams() {
	l := vsockSocket()
	must(unix.Bind(l, &unix.SockaddrVM{CID: unix.VMADDR_CID_ANY, Port: echoPort}))
	must(unix.Listen(l, 8))
	ready := vsockSocket()
	must(unix.Connect(ready, &unix.SockaddrVM{CID: hostCID, Port: readyPort}))
	_, err := unix.Write(ready, []byte("ready\n"))
	must(err)
	if err := unix.Connect(vsockSocket(), &unix.SockaddrVM{CID: hostCID, Port: 9}); !errors.Is(err, unix.ECONNRESET) {
		panic(fmt.Sprintf("connect to a port nobody serves: %v", err))
	}
	fd, _, err := unix.Accept(l)
	must(err)
	c := os.NewFile(uintptr(fd), "stream")
	n, err := io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c})
	must(err)
	must(unix.Shutdown(fd, unix.SHUT_WR))
	must(c.Close())
	fmt.Printf("echoed %d bytes\n", n)
	// The other end of ready says when all was read.
	_, _ = unix.Read(ready, make([]byte, 1))
}

func vsockSocket() int {
	fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0)
	must(err)
	return fd
}

// grep returns the console's lines that begin with prefix, without it.
func grep(console []byte, prefix string) []string {
	var found []string
	for s := bufio.NewScanner(bytes.NewReader(console)); s.Scan(); {
		if rest, ok := strings.CutPrefix(strings.TrimRight(s.Text(), "\r"), prefix); ok {
			found = append(found, rest)
		}
	}
	return found
}

// bigFile fills a file with n bytes that differ, and returns their sum.
func bigFile(t *testing.T, dir, name string, n int) string {
	t.Helper()
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i * 7 >> (i % 5))
	}
	if err := os.WriteFile(filepath.Join(dir, name), p, 0o644); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(p))
}
