package legacy

import (
	"bytes"
	"testing"
)

func TestUARTPrintsWhatIsSent(t *testing.T) {
	var out bytes.Buffer
	u := NewUART(&out)
	u.Write(uartLineCtl, []byte{uartDLAB | 3})
	u.Write(0, []byte{1}) // divisor, not output
	u.Write(1, []byte{0})
	u.Write(uartLineCtl, []byte{3})
	for _, c := range []byte("hello") {
		var status [1]byte
		u.Read(uartLineStatus, status[:])
		if status[0]&uartReady != uartReady {
			t.Fatalf("line status %#x: not ready", status[0])
		}
		u.Write(uartData, []byte{c})
	}
	if out.String() != "hello" {
		t.Errorf("got %q", out.String())
	}
}

func TestUARTSurvivesOddAccesses(t *testing.T) {
	u := NewUART(&bytes.Buffer{})
	for off := range uint64(uartPorts) {
		for _, n := range []int{1, 2, 4, 8} {
			u.Write(off, bytes.Repeat([]byte{0xff}, n))
			u.Read(off, make([]byte, n))
		}
	}
}

func TestI8042ResetsOnItsCommandOnly(t *testing.T) {
	n := 0
	k := NewI8042(func() { n++ })
	k.Write(0, []byte{i8042Reset})
	k.Write(4, []byte{0xd1})
	k.Write(3, []byte{i8042Reset, i8042Reset})
	if n != 0 {
		t.Fatal("reset without its command")
	}
	k.Write(4, []byte{i8042Reset})
	if n != 1 {
		t.Errorf("%d resets, want 1", n)
	}
}

func TestExitPort(t *testing.T) {
	var got []byte
	e := NewExitPort(func(code byte) { got = append(got, code) })
	e.Write(0, []byte{42})
	if !bytes.Equal(got, []byte{42}) {
		t.Errorf("got %v", got)
	}
}
