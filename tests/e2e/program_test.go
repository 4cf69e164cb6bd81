package e2e

import (
	"crypto/md5"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
)

// programName is what this test is called when it runs in a container, where it
// does what busybox cannot.
const programName = "e2e-program"

// programs do what their arguments say.
var programs = map[string]func(args []string) error{
	"sums":       func(args []string) error { return serveSums(args[0]) },
	"echo":       serveEcho,
	"ask":        askEcho,
	"inotify":    printEvents,
	"vsock":      tryVsock,
	"use pairs":  usePairs,
	"ledgers":    func(args []string) error { return keepLedgers(args[0]) },
	"file steps": func(args []string) error { return doFileSteps(args[0]) },
	"file step":  func(args []string) error { return doFileStep(args[0], args[1]) },
}

func runProgram(args []string) (code int) {
	if err := programs[args[0]](args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// withProgram puts the program into b's path.
func (s *site) withProgram(b *bundle) *bundle {
	s.t.Helper()
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	if out, err := exec.Command("cp", self, filepath.Join(b.rootfs("bin"), programName)).CombinedOutput(); err != nil {
		s.t.Fatalf("copy program: %v: %s", err, out)
	}
	return b
}

// serveSums answers each connection to address with the sum of what it has got.
func serveSums(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			sum := md5.New()
			if _, err := io.Copy(sum, c); err == nil {
				fmt.Fprintf(c, "%x", sum.Sum(nil))
			}
		}()
	}
}
