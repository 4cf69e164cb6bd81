package e2e

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/agent/api"
)

// TestAgentIsReachedByNothingInside has a program of a container connect to the agent's
// ports in the guest, where vsock knows no namespaces, and to the host's.
func TestAgentIsReachedByNothingInside(t *testing.T) {
	s := newSite(t)
	b := s.withProgram(s.bundle([]string{programName, "vsock"}, privileged))
	out := s.output(b)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != len(vsockCIDs)*len(vsockPorts) {
		t.Errorf("%d tries: %s", len(lines), out)
	}
	for _, line := range lines {
		if !strings.HasSuffix(line, " closed") && !strings.HasSuffix(line, " refused") {
			t.Errorf("a container reaches the agent or the host: %s", line)
		}
	}
}

var (
	vsockCIDs  = []uint32{unix.VMADDR_CID_LOCAL, api.GuestCID, api.HostCID}
	vsockPorts = []uint32{api.PortAgent, api.PortStream, api.PortDial}
)

// tryVsock connects to all addresses and prints what became of it.
func tryVsock([]string) error {
	for _, cid := range vsockCIDs {
		for _, port := range vsockPorts {
			fmt.Printf("%d:%d %s\n", cid, port, tryPort(cid, port))
		}
	}
	return nil
}

// tryPort tells whether a connection was refused, was closed by the other side without
// a word, or is open.
func tryPort(cid, port uint32) string {
	fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err.Error()
	}
	if err := unix.Connect(fd, &unix.SockaddrVM{CID: cid, Port: port}); err != nil {
		unix.Close(fd)
		return "refused"
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return err.Error()
	}
	f := os.NewFile(uintptr(fd), "vsock")
	defer f.Close()
	if err := f.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err.Error()
	}
	n, err := f.Read(make([]byte, 100))
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "open"
	case n > 0:
		return fmt.Sprintf("says %d bytes", n)
	}
	return "closed"
}
