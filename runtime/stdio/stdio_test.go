package stdio

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// pair is a connection with both ends here: the relay's and the guest's.
func pair(t *testing.T) (Conn, *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		c, err := net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		ends[i] = c.(*net.UnixConn)
		t.Cleanup(func() { c.Close() })
	}
	return ends[0], ends[1]
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

func newRelay(t *testing.T) *Relay {
	t.Helper()
	r, err := NewRelay()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestBytesThroughAnEchoAreTheSame(t *testing.T) {
	data := make([]byte, 8<<20+13)
	rand.Read(data)
	in, inW := pipe(t)
	out, outW := pipe(t)
	relay := newRelay(t)
	defer relay.Close()
	stdin, guestIn := pair(t)
	stdout, guestOut := pair(t)
	relay.Input(stdin, int(in.Fd()))
	relay.Output(int(outW.Fd()), stdout)
	go func() { // the guest's cat
		io.Copy(guestOut, guestIn)
		guestOut.CloseWrite()
	}()
	go func() {
		inW.Write(data)
		inW.Close()
	}()
	go func() {
		if err := relay.Wait(); err != nil {
			t.Error(err)
		}
		outW.Close()
	}()
	got, err := io.ReadAll(out)
	if err != nil || sha256.Sum256(got) != sha256.Sum256(data) {
		t.Errorf("%d bytes of %d, %v", len(got), len(data), err)
	}
}

func TestNonBlockingDescriptors(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	_, outW := pipe(t)
	fds := make([]int, 2)
	if err := unix.Pipe2(fds, unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	outW.Close()
	defer unix.Close(fds[1])
	out := os.NewFile(uintptr(fds[0]), "out")
	defer out.Close()
	relay := newRelay(t)
	defer relay.Close()
	stdout, guest := pair(t)
	relay.Output(fds[1], stdout)
	go func() {
		guest.Write(data)
		guest.CloseWrite()
	}()
	got := make([]byte, len(data))
	if _, err := io.ReadFull(out, got); err != nil || !bytes.Equal(got, data) {
		t.Error(err)
	}
	if err := relay.Wait(); err != nil {
		t.Error(err)
	}
}

func TestInputThatNobodySendsDoesNotHoldUpTheEnd(t *testing.T) {
	in, _ := pipe(t)
	relay := newRelay(t)
	c, guest := pair(t)
	relay.Input(c, int(in.Fd()))
	guest.Close()
	if err := relay.Wait(); err != nil {
		t.Error(err)
	}
	relay.Close() // would hang if the copy could not be woken
}

func TestInputThatNobodyReadsDoesNotHoldUpTheEnd(t *testing.T) {
	zero, err := os.Open("/dev/zero")
	if err != nil {
		t.Fatal(err)
	}
	defer zero.Close()
	relay := newRelay(t)
	c, _ := pair(t)
	relay.Input(c, int(zero.Fd()))
	relay.Close()
}

func TestGuestLearnsThatNobodyReadsItsOutput(t *testing.T) {
	out, outW := pipe(t)
	out.Close()
	relay := newRelay(t)
	defer relay.Close()
	c, guest := pair(t)
	relay.Output(int(outW.Fd()), c)
	for {
		if _, err := guest.Write(make([]byte, 4096)); err != nil {
			break
		}
	}
	if err := relay.Wait(); !errors.Is(err, unix.EPIPE) {
		t.Error(err)
	}
}

func TestTerminalIsRawAndSent(t *testing.T) {
	master, slave, err := NewPTY()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	defer slave.Close()
	path := filepath.Join(t.TempDir(), "sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := SendTerminal(path, master); err != nil {
		t.Fatal(err)
	}
	got := receive(t, l)
	defer got.Close()

	if err := slave.SetSize(101, 37); err != nil {
		t.Fatal(err)
	}
	if w, h := (&Terminal{f: got}).Size(); w != 101 || h != 37 {
		t.Errorf("size %dx%d", w, h)
	}
	relay := newRelay(t)
	c, guest := pair(t)
	relay.Input(c, slave.FD())
	relay.Output(slave.FD(), c)
	defer relay.Close()
	// Interrupt and end of file are the guest's business, and so is newline.
	const typed, shown = "a\x03\x04\r", "x\ny\r\n"
	if _, err := got.WriteString(typed); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, len(typed))
	if _, err := io.ReadFull(guest, p); err != nil || string(p) != typed {
		t.Errorf("%q %v", p, err)
	}
	if _, err := guest.Write([]byte(shown)); err != nil {
		t.Fatal(err)
	}
	p = make([]byte, len(shown))
	if _, err := io.ReadFull(got, p); err != nil || string(p) != shown {
		t.Errorf("%q %v", p, err)
	}
}

func receive(t *testing.T, l *net.UnixListener) *os.File {
	t.Helper()
	c, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := c.ReadMsgUnix(make([]byte, 100), oob)
	if err != nil {
		t.Fatal(err)
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(msgs) != 1 {
		t.Fatal(msgs, err)
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fds[0]), "master")
}

func TestRestoreBringsTheModeBack(t *testing.T) {
	master, slave, err := NewPTY()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	defer slave.Close()
	cooked := &Terminal{f: master}
	before, _ := unix.IoctlGetTermios(cooked.FD(), unix.TCGETS)
	before.Lflag |= unix.ECHO
	if err := unix.IoctlSetTermios(cooked.FD(), unix.TCSETS, before); err != nil {
		t.Fatal(err)
	}
	if err := cooked.Raw(); err != nil {
		t.Fatal(err)
	}
	if m, _ := unix.IoctlGetTermios(cooked.FD(), unix.TCGETS); m.Lflag&unix.ECHO != 0 {
		t.Error("echo in raw mode")
	}
	if err := cooked.Restore(); err != nil {
		t.Fatal(err)
	}
	if m, _ := unix.IoctlGetTermios(cooked.FD(), unix.TCGETS); *m != *before {
		t.Error("not restored")
	}
}

func TestConsoleSocketMissing(t *testing.T) {
	master, slave, err := NewPTY()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	defer slave.Close()
	if err := SendTerminal("/no/such/socket", master); err == nil || !strings.Contains(err.Error(), "/no/such/socket") {
		t.Error(err)
	}
}
