package vsocktest

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

const hostCID = 2

// released is closed when StallPort may read.
var (
	released = make(chan struct{})
	release  = sync.OnceFunc(func() { close(released) })
)

var services = map[uint32]func(*stream){
	EchoPort:    serveEcho,
	SumPort:     serveSum,
	SourcePort:  serveSource,
	HangUpPort:  func(s *stream) { fmt.Fprint(s, "bye") },
	StallPort:   func(s *stream) { <-released; serveSum(s) },
	ReleasePort: func(*stream) { release() },
	OffPort:     func(*stream) { powerOff() },
}

// Guest is the guest's half. It is called as PID 1, needs nothing but a kernel,
// and ends with the machine.
func Guest() {
	must(os.MkdirAll("/dev", 0o755))
	must(unix.Mount("dev", "/dev", "devtmpfs", 0, ""))
	var limit unix.Rlimit
	limit.Cur, limit.Max = 1<<16, 1<<16
	must(unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
	for port, serve := range services {
		go accept(listen(port), serve)
	}
	ready := vsocket()
	must(unix.Connect(ready, &unix.SockaddrVM{CID: hostCID, Port: ReadyPort}))
	_, err := unix.Write(ready, []byte(Ready))
	must(err)
	select {}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func vsocket() int {
	fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(err)
	return fd
}

func listen(port uint32) int {
	fd := vsocket()
	must(unix.Bind(fd, &unix.SockaddrVM{CID: unix.VMADDR_CID_ANY, Port: port}))
	must(unix.Listen(fd, 1024))
	return fd
}

// stream is an accepted connection.
type stream struct {
	*os.File // non-blocking, so that waiting takes no thread
	fd       int
}

func accept(l int, serve func(*stream)) {
	for {
		fd, _, err := unix.Accept4(l, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		must(err)
		go func() {
			s := &stream{os.NewFile(uintptr(fd), "stream"), fd}
			defer s.Close()
			serve(s)
		}()
	}
}

// finish half-closes s and waits for the host to do the same.
func (s *stream) finish() {
	_ = unix.Shutdown(s.fd, unix.SHUT_WR)
	_, _ = io.Copy(io.Discard, s)
}

func serveEcho(s *stream) {
	buf := make([]byte, 64<<10)
	_, err := io.CopyBuffer(struct{ io.Writer }{s}, struct{ io.Reader }{s}, buf)
	complain("echo", err)
	s.finish()
}

func serveSum(s *stream) {
	h := sha256.New()
	_, err := io.Copy(h, s)
	complain("sum", err)
	fmt.Fprintf(s, "%x", h.Sum(nil))
}

func serveSource(s *stream) {
	line, err := bufio.NewReader(io.LimitReader(s, 32)).ReadString('\n')
	complain("source", err)
	n, err := strconv.Atoi(strings.TrimSuffix(line, "\n"))
	complain("source", err)
	buf := make([]byte, 100_000)
	for off := 0; off < n; {
		p := buf[:min(len(buf), n-off)]
		Pattern(p, off)
		if _, err := s.Write(p); err != nil {
			complain("source", err)
			return
		}
		off += len(p)
	}
	s.finish()
}

func complain(what string, err error) {
	if err != nil {
		fmt.Printf("guest: %s: %v\n", what, err)
	}
}

func powerOff() {
	f, err := os.OpenFile("/dev/port", os.O_RDWR, 0)
	must(err)
	_, err = f.WriteAt([]byte{0}, 0x501)
	must(err)
}
