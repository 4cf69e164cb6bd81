package vsocktest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long anything may take on the slowest machine.
const patience = 5 * time.Minute

// Dial opens a stream to a port of the guest, or fails when it is refused.
type Dial func(port uint32) (*net.UnixConn, error)

// Run tries a guest that has said Ready. The guest goes on.
func Run(t *testing.T, dial Dial) {
	h := host{dial}
	t.Run("closed port is refused", h.refused)
	t.Run("echo", h.echo)
	t.Run("bytes to the guest", h.toGuest)
	t.Run("bytes to the host", h.toHost)
	t.Run("slow reader", h.slowReader)
	t.Run("guest closes without reading", h.hangUp)
	t.Run("stalled guest", h.stalled)
	t.Run("host goes away", h.goAway)
	t.Run("a thousand streams", h.thousand)
	t.Run("streams one after the other", h.sequence)
}

type host struct{ dial Dial }

func (h host) open(t *testing.T, port uint32) *net.UnixConn {
	t.Helper()
	c, err := h.dial(port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c
}

func pattern(n int) []byte {
	p := make([]byte, n)
	Pattern(p, 0)
	return p
}

func readAll(t *testing.T, r io.Reader) []byte {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("after %d bytes: %v", len(b), err)
	}
	return b
}

func expect(t *testing.T, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Fatalf("got %d bytes, want %d, or they differ", len(got), len(want))
	}
}

func (h host) refused(t *testing.T) {
	if c, err := h.dial(9); err == nil {
		c.Close()
		t.Fatal("connected to a port that nobody serves")
	}
}

func (h host) echo(t *testing.T) {
	c := h.open(t, EchoPort)
	want := pattern(4<<20 + 321)
	go func() {
		c.Write(want)
		c.CloseWrite()
	}()
	expect(t, readAll(t, c), want)
}

func (h host) toGuest(t *testing.T) {
	c := h.open(t, SumPort)
	want := pattern(8 << 20)
	start := time.Now()
	if _, err := c.Write(want); err != nil {
		t.Fatal(err)
	}
	c.CloseWrite()
	expect(t, readAll(t, c), fmt.Appendf(nil, "%x", sha256.Sum256(want)))
	t.Logf("%.0f MB/s, with the guest's SHA-256", float64(len(want))/1e6/time.Since(start).Seconds())
}

func (h host) toHost(t *testing.T) {
	c := h.open(t, SourcePort)
	want := pattern(16 << 20)
	start := time.Now()
	fmt.Fprintf(c, "%d\n", len(want))
	got := readAll(t, c)
	t.Logf("%.0f MB/s", float64(len(want))/1e6/time.Since(start).Seconds())
	expect(t, got, want)
}

// slowReader stops for a while in the middle, with the guest's credit used up.
func (h host) slowReader(t *testing.T) {
	c := h.open(t, SourcePort)
	want := pattern(2 << 20)
	fmt.Fprintf(c, "%d\n", len(want))
	got := make([]byte, 100)
	if _, err := io.ReadFull(c, got); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond)
	expect(t, append(got, readAll(t, c)...), want)
}

func (h host) hangUp(t *testing.T) {
	for range 20 {
		c := h.open(t, HangUpPort)
		c.Write(pattern(10_000)) // fails if the guest was quicker
		if got := readAll(t, c); string(got) != "bye" {
			t.Fatalf("got %q", got)
		}
	}
}

// stalled fills a stream that the guest does not read. Others go on.
func (h host) stalled(t *testing.T) {
	c := h.open(t, StallPort)
	want := pattern(8 << 20)
	written := 0
	for { // until nothing is taken for a while
		c.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
		n, err := c.Write(want[written:min(len(want), written+64<<10)])
		written += n
		if errors.Is(err, unix.ETIMEDOUT) || isTimeout(err) {
			break
		}
		if err != nil || written == len(want) {
			t.Fatalf("%d bytes were taken by a guest that does not read: %v", written, err)
		}
	}
	h.echo(t)
	h.open(t, ReleasePort)
	c.SetWriteDeadline(time.Now().Add(patience))
	if _, err := c.Write(want[written:]); err != nil {
		t.Fatal(err)
	}
	c.CloseWrite()
	expect(t, readAll(t, c), fmt.Appendf(nil, "%x", sha256.Sum256(want)))
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

// goAway closes streams in the middle of a transfer.
func (h host) goAway(t *testing.T) {
	for range 20 {
		c := h.open(t, SourcePort)
		fmt.Fprintf(c, "%d\n", 4<<20)
		if _, err := io.ReadFull(c, make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	h.echo(t)
}

// thousand echoes on a thousand streams that are all open at once.
func (h host) thousand(t *testing.T) {
	const streams = 1000
	var opened, done sync.WaitGroup
	slots := make(chan struct{}, 64) // the guest's backlog is finite
	for i := range streams {
		opened.Add(1)
		done.Go(func() {
			slots <- struct{}{}
			c, err := h.dial(EchoPort)
			<-slots
			opened.Done()
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			opened.Wait()
			if err := roundTrip(c, pattern(2000+3*i)); err != nil {
				t.Errorf("stream %d: %v", i, err)
			}
		})
	}
	done.Wait()
}

func roundTrip(c *net.UnixConn, want []byte) error {
	c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write(want); err != nil {
		return err
	}
	c.CloseWrite()
	got, err := io.ReadAll(c)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%d bytes came back of %d, or they differ", len(got), len(want))
	}
	return nil
}

func (h host) sequence(t *testing.T) {
	const rounds = 50
	start := time.Now()
	for range rounds {
		c := h.open(t, EchoPort)
		if err := roundTrip(c, []byte("ping")); err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	t.Logf("%v a stream: connect, ping, half-close, close", time.Since(start)/rounds)
}
