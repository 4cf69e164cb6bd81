package vsock

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxLine is the longest line of a client, "CONNECT 4294967295\n".
	maxLine = 19
	// lineTimeout is how long a client may take to send its line.
	lineTimeout = 10 * time.Second
	// maxGreeting is how many clients may be sending their line at a time;
	// more wait in the listener's backlog.
	maxGreeting = 128
	// exhaustedPause is how long Serve waits when the process is out of
	// descriptors or memory.
	exhaustedPause = 50 * time.Millisecond
)

var errLine = errors.New(`want "CONNECT <port>"`)

// Serve accepts clients on l, which it takes over, until l or the device is
// closed; it returns nil then. A client writes "CONNECT <port>\n" with a
// decimal port of the guest. It is answered "OK <n>\n", and the connection is
// the stream from there on; or "ERR <cause>\n", and the connection ends.
func (d *Device) Serve(l *net.UnixListener) error {
	defer l.Close()
	if !d.addListener(l) {
		return nil
	}
	defer d.serving.Done()
	slots := make(chan struct{}, maxGreeting)
	for {
		c, err := l.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if exhausted(err) {
			time.Sleep(exhaustedPause)
			continue
		}
		if err != nil {
			return fmt.Errorf("accept vsock client: %w", err)
		}
		slots <- struct{}{}
		d.serving.Add(1)
		go func() {
			defer d.serving.Done()
			d.greet(c)
			<-slots
		}()
	}
}

// exhausted says that accepting failed for lack of something that others may
// give back.
func exhausted(err error) bool {
	for _, e := range []error{unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func (d *Device) addListener(l *net.UnixListener) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	d.listeners[l] = struct{}{}
	d.serving.Add(1)
	return true
}

// greet reads the line of a client and hands it to the session.
func (d *Device) greet(c *net.UnixConn) {
	if !d.addClient(c) {
		c.Close()
		return
	}
	port, err := readLine(c)
	d.removeClient(c)
	if err == nil {
		err = d.call(call{port: port, conn: c, greet: true})
	}
	if err != nil {
		refuse(call{conn: c, greet: true}, err)
	}
}

func (d *Device) addClient(c *net.UnixConn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	d.greeting[c] = struct{}{}
	return true
}

func (d *Device) removeClient(c *net.UnixConn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.greeting, c)
}

// readLine reads a client's line and not a byte more: what follows belongs to
// the stream.
func readLine(c *net.UnixConn) (port uint32, err error) {
	_ = c.SetReadDeadline(time.Now().Add(lineTimeout))
	defer c.SetReadDeadline(time.Time{})
	line := make([]byte, 0, maxLine)
	for len(line) < maxLine {
		if _, err := c.Read(line[len(line) : len(line)+1]); err != nil {
			return 0, fmt.Errorf("read line: %w", err)
		}
		line = line[:len(line)+1]
		if line[len(line)-1] == '\n' {
			return parseLine(line[:len(line)-1])
		}
	}
	return 0, errLine
}

func parseLine(line []byte) (uint32, error) {
	digits, ok := bytes.CutPrefix(line, []byte("CONNECT "))
	if !ok {
		return 0, errLine
	}
	port, err := strconv.ParseUint(string(digits), 10, 32)
	if err != nil {
		return 0, errLine
	}
	return uint32(port), nil
}

// refuse ends a call that never became a stream.
func refuse(c call, cause error) {
	if c.greet {
		_ = c.conn.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = c.conn.Write(errorLine(cause))
	}
	c.conn.Close()
}

func errorLine(cause error) []byte { return fmt.Appendf(nil, "ERR %v\n", cause) }
