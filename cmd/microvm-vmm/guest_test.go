package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// The test binary is three programs: the tests, the VM process that they start
// (vmmVariable is set), and the init of the guest in it (process 1).
const vmmVariable = "MICROVM_TEST_VMM"

// init keeps the main thread of the guest's init for itself: the file server takes it
// for the agent's, which opens no files.
func init() {
	if os.Getpid() == 1 && os.Getenv(vmmVariable) == "" {
		runtime.LockOSThread()
	}
}

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(vmmVariable) != "":
		main()
	case os.Getpid() == 1:
		go guest()
		select {}
	default:
		code := m.Run()
		removeProgram()
		os.Exit(code)
	}
}

// hostCID is VMADDR_CID_HOST.
const hostCID = 2

// guest does what the host asks for, line by line over vsock.
func guest() {
	must(os.MkdirAll("/dev", 0o755))
	must(unix.Mount("dev", "/dev", "devtmpfs", 0, ""))
	if os.Getenv(guestVariable) == "share" {
		guestShare()
	}
	must(os.MkdirAll("/exports", 0o755))
	must(unix.Mount("exports", "/exports", "virtiofs", 0, ""))
	host := dialHost(1024)
	fmt.Fprintln(host, "ready")
	var verb, name string
	for {
		if _, err := fmt.Fscanln(host, &verb, &name); err != nil {
			panic(err)
		}
		switch verb {
		case "read":
			b, err := os.ReadFile("/exports/" + name)
			fmt.Fprintf(host, "%s %v\n", b, err)
		case "exit":
			outb(0x501, 0)
		case "panic":
			os.Exit(1)
		}
	}
}

func dialHost(port uint32) io.ReadWriter {
	fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0)
	must(err)
	must(unix.Connect(fd, &unix.SockaddrVM{CID: hostCID, Port: port}))
	return os.NewFile(uintptr(fd), "host")
}

func outb(port int64, b byte) {
	f, err := os.OpenFile("/dev/port", os.O_RDWR, 0)
	must(err)
	_, err = f.WriteAt([]byte{b}, port)
	must(err)
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
