package main

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/netns"
	"github.com/microvm/microvm/vmm/control"
)

// build builds the program, and has what the test was started with not handed on to it.
func build(t *testing.T) string {
	t.Helper()
	if err := unix.CloseRange(3, 1<<31-1, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "microvm-network")
	cmd := exec.Command("go", "build", "-o", path, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // its jail is for all threads
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
	return path
}

// TestEndsWithItsGuest asks the gateway for its address, and hangs up.
func TestEndsWithItsGuest(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	guest, theirs := os.NewFile(uintptr(fds[0]), "guest"), os.NewFile(uintptr(fds[1]), "network")
	defer guest.Close()
	ready, started, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer ready.Close()
	cmd := exec.Command(build(t), "--socket", "3", "--ready", "4")
	cmd.ExtraFiles = []*os.File{theirs, started}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: control.Namespaces}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	started.Close()
	if n, err := ready.Read(make([]byte, 1)); n != 1 {
		t.Fatal(err)
	}
	stop := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
	defer stop.Stop()
	if _, err := guest.Write(arpRequest(t)); err != nil {
		t.Fatal(err)
	}
	gateway, _ := net.ParseMAC(netns.UserGatewayMAC)
	p := make([]byte, 2000)
	if n, err := guest.Read(p); err != nil || n < 28 || !bytes.Equal(p[22:28], gateway) {
		t.Errorf("answer % x, %v: %s", p[:max(n, 0)], err, stderr.String())
	}
	guest.Close()
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v: %s", err, stderr.String())
	}
}

// arpRequest asks for the gateway's address (RFC 826).
func arpRequest(t *testing.T) []byte {
	t.Helper()
	mac, err := net.ParseMAC(netns.UserMAC)
	if err != nil {
		t.Fatal(err)
	}
	frame := append(bytes.Repeat([]byte{0xff}, 6), mac...)
	frame = append(frame, 0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1)
	frame = append(append(frame, mac...), net.ParseIP(netns.UserAddress4).To4()...)
	return append(append(frame, make([]byte, 6)...), net.ParseIP(netns.UserGateway4).To4()...)
}

func TestPublications(t *testing.T) {
	var p publications
	if err := p.Set("[::1]:8080=80"); err != nil || p[0] != (publication{"[::1]:8080", 80, false}) {
		t.Errorf("%v, %v", p, err)
	}
	for _, bad := range []string{"", "127.0.0.1:80", "80=80", "127.0.0.1:80=", "127.0.0.1:80=0", "127.0.0.1:80=x"} {
		if err := p.Set(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}
