package vsock_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// serve lets the device listen and returns the socket's path.
func (g *guest) serve() string {
	g.t.Helper()
	path := filepath.Join(g.t.TempDir(), "vsock.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		g.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- g.dev.Serve(l) }()
	g.t.Cleanup(func() {
		g.dev.Close()
		if err := <-done; err != nil {
			g.t.Error(err)
		}
	})
	return path
}

// dial connects to a port of the guest as a client of Serve does.
func dial(path string, port uint32) (*net.UnixConn, error) {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(60 * time.Second))
	fmt.Fprintf(c, "CONNECT %d\n", port)
	line, err := answerLine(c)
	if err != nil || !strings.HasPrefix(line, "OK ") {
		c.Close()
		return nil, fmt.Errorf("answer %q: %v", line, err)
	}
	return c, nil
}

// answerLine reads a line and not a byte more.
func answerLine(c net.Conn) (string, error) {
	var line []byte
	for b := make([]byte, 1); b[0] != '\n'; {
		if _, err := c.Read(b); err != nil {
			return string(line), err
		}
		line = append(line, b[0])
	}
	return string(line), nil
}

func TestEchoOfHundredMiB(t *testing.T) {
	e := bootEcho(t, linuxLayout())
	c, err := dial(e.serve(), 1025)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const size = 100 << 20
	want, got := sha256.New(), sha256.New()
	sent := make(chan error, 1)
	go func() {
		r := io.TeeReader(io.LimitReader(rand.New(rand.NewSource(1)), size), want)
		_, err := io.CopyBuffer(struct{ io.Writer }{c}, r, make([]byte, 100_000))
		c.CloseWrite()
		sent <- err
	}()
	n, err := io.Copy(got, c)
	if err != nil || n != size {
		t.Fatalf("got %d bytes back: %v", n, err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want.Sum(nil), got.Sum(nil)) {
		t.Fatal("bytes were changed")
	}
}

func TestThousandStreams(t *testing.T) {
	e := bootEcho(t, linuxLayout())
	path := e.serve()
	var all sync.WaitGroup
	start := make(chan struct{})
	var open sync.WaitGroup
	for i := range 1000 {
		open.Add(1)
		all.Add(1)
		go func() {
			defer all.Done()
			c, err := dial(path, uint32(i))
			open.Done()
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			<-start // all are open at once
			if err := roundTrip(c, pattern(i, 5000+40*i)); err != nil {
				t.Errorf("stream %d: %v", i, err)
			}
		}()
	}
	open.Wait()
	close(start)
	all.Wait()
}

// roundTrip sends want, half-closes, and expects want back.
func roundTrip(c *net.UnixConn, want []byte) error {
	go func() {
		c.Write(want)
		c.CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%d bytes back of %d, or changed ones", len(got), len(want))
	}
	return nil
}

func BenchmarkToGuest(b *testing.B) {
	g := boot(b, linuxLayout())
	c, host := g.open(7)
	b.SetBytes(64 << 10)
	go func() {
		buf := make([]byte, 64<<10)
		for range b.N {
			host.Write(buf)
		}
	}()
	var told int
	for got := 0; got < b.N*64<<10; {
		head, n, ok := g.rx.Used()
		if !ok {
			select {
			case <-g.rx.irq:
			case <-time.After(time.Millisecond):
			}
			continue
		}
		g.rx.Publish(head)
		g.rx.kick.Ring()
		got += int(n) - headerSize
		if got-told > guestCredit/2 {
			told = got
			c.send(opCreditUpdate, fwdCnt(uint32(got)))
		}
	}
}

func BenchmarkToHost(b *testing.B) {
	g := boot(b, linuxLayout())
	c, host := g.open(7)
	b.SetBytes(64 << 10)
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 256<<10)
		for left := b.N * 64 << 10; left > 0; {
			n, err := host.Read(buf)
			if err != nil {
				b.Error(err)
				return
			}
			left -= n
		}
	}()
	buf := make([]byte, 64<<10)
	fwd := 0
	for i := range b.N {
		for i*64<<10-fwd > hostCredit-64<<10 {
			fwd = int(g.expect(opCreditUpdate).FwdCnt) | fwd&^0xffffffff
		}
		c.send(opRW, data(buf))
	}
	<-done
}

func BenchmarkRoundTrip(b *testing.B) {
	g := boot(b, linuxLayout())
	c, host := g.open(7)
	buf := make([]byte, 64)
	for i := range b.N {
		host.Write(buf)
		g.expect(opRW)
		c.send(opRW, data(buf), fwdCnt(uint32(64*(i+1))))
		if _, err := io.ReadFull(host, buf); err != nil {
			b.Fatal(err)
		}
	}
}
