package guest

import (
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/microvm/microvm/agent/api"
)

func TestHello(t *testing.T) {
	var line Timeline
	line.ReachedAt(api.StageInit, 5)
	line.Reach(api.StageReady)
	m := &Machine{Timeline: &line}
	resp, err := m.Hello(t.Context(), &api.HelloRequest{Version: api.Version})
	if err != nil {
		t.Fatal(err)
	}
	if len(resp.Stages) != 2 || resp.Stages[0].BoottimeNanos != 5 || resp.Stages[1].BoottimeNanos > resp.BoottimeNanos {
		t.Errorf("stages: %v of %d", resp.Stages, resp.BoottimeNanos)
	}
	if resp.KernelRelease == "" {
		t.Error("no kernel release")
	}
	_, err = m.Hello(t.Context(), &api.HelloRequest{Version: "0"})
	if status.Code(err) != codes.FailedPrecondition {
		t.Errorf("other version: %v", err)
	}
}

func TestEntropyLayout(t *testing.T) {
	var p poolInfo
	if unsafe.Offsetof(p.bufSize) != 4 || unsafe.Offsetof(p.buf) != 8 {
		t.Errorf("bufSize at %d, buf at %d", unsafe.Offsetof(p.bufSize), unsafe.Offsetof(p.buf))
	}
	if err := addEntropy(make([]byte, maxEntropy+1)); err == nil {
		t.Error("too much entropy was taken")
	}
}

// TestLoopbackUp runs in a network namespace that ends with its thread.
func TestLoopbackUp(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make a network namespace")
	}
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		result <- upInNamespace()
	}()
	if err := <-result; err != nil {
		t.Error(err)
	}
}

func upInNamespace() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	if err := LoopbackUp(); err != nil {
		return err
	}
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		return err
	}
	if lo.Flags&net.FlagUp == 0 {
		return errors.New("lo is down")
	}
	return nil
}

func TestOneConn(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	l := OneConn(a)
	if got, err := l.Accept(); got != a || err != nil {
		t.Fatalf("got %v, %v", got, err)
	}
	ended := make(chan error)
	go func() { _, err := l.Accept(); ended <- err }()
	l.Close()
	l.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

// connPair joins two connections with a stream socketpair, which behaves like
// vsock.
func connPair(t *testing.T) (a, b *Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range []**Conn{&a, &b} {
		if *c, err = newConn(fds[i], addr{uint32(i), 1}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { (*c).Close() })
	}
	return a, b
}

func TestConn(t *testing.T) {
	a, b := connPair(t)
	if _, err := a.Write([]byte("to b")); err != nil {
		t.Fatal(err)
	}
	if err := a.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(b); err != nil || string(got) != "to b" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := b.Write([]byte("to a")); err != nil {
		t.Errorf("the other direction: %v", err)
	}
	a.SetReadDeadline(time.Now().Add(-time.Second))
	if _, err := a.Read(make([]byte, 4)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("deadline: %v", err)
	}
	if got := a.RemoteAddr().String(); got != "0:1" || a.RemoteAddr().Network() != "vsock" {
		t.Errorf("address: %s", got)
	}
}

func TestCloseEndsRead(t *testing.T) {
	a, _ := connPair(t)
	ended := make(chan error)
	go func() { _, err := a.Read(make([]byte, 1)); ended <- err }()
	time.Sleep(10 * time.Millisecond)
	a.Close()
	if err := <-ended; err == nil {
		t.Error("read went on")
	}
}
