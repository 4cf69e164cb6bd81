package control

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// FuzzReceive lets the other end of a control socket say anything, descriptors
// included: the message is taken or refused, and no descriptor is left over.
func FuzzReceive(f *testing.F) {
	f.Add([]byte(`{"type":"exit","reason":"poweroff","console":"x"}`), uint8(0))
	f.Add([]byte(`{"seq":1,"op":"add-export","export":{"name":"a","fd":3}}`), uint8(1))
	f.Add([]byte("{"), uint8(maxFDs+3))
	null, err := os.Open(os.DevNull)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { null.Close() })
	f.Fuzz(func(t *testing.T, message []byte, files uint8) {
		if len(message) == 0 || len(message) > MaxMessage {
			t.Skip()
		}
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fds[1])
		c, err := Open(os.NewFile(uintptr(fds[0]), "control"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		var rights []byte
		for range files % 8 {
			rights = append(rights, unix.UnixRights(int(null.Fd()))...)
		}
		if err := unix.Sendmsg(fds[1], message, rights, nil, 0); err != nil {
			t.Skip(err) // the kernel takes one set of descriptors
		}
		var e Event
		got, err := c.Receive(&e)
		if err != nil && len(got) > 0 {
			t.Errorf("%d descriptors come with the error %v", len(got), err)
		}
		closeAll(got)
	})
}

// FuzzReadConfig reads anything as a configuration: one that is taken is the same
// after it was written again.
func FuzzReadConfig(f *testing.F) {
	f.Add([]byte(`{"id":"a","machine":"kvm","cpus":1,"memory":1048576,"kernel":3,"initramfs":4,"control":5,"vsock":{"guestCID":3,"listener":6}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := ReadConfig(bytes.NewReader(text))
		if err != nil {
			return
		}
		c.Descriptors()
		again, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ReadConfig(bytes.NewReader(again)); err != nil {
			t.Fatal(err)
		}
	})
}
