package legacy

import (
	"io"
	"sync"
)

// Registers of a 16550 by offset, as far as early printing needs them.
const (
	uartData       = 0 // transmit; divisor low while DLAB is set
	uartLineCtl    = 3
	uartLineStatus = 5
	uartPorts      = 8

	uartDLAB  = 1 << 7 // uartLineCtl: offsets 0 and 1 are the divisor
	uartReady = 0x60   // uartLineStatus: transmitter empty
)

// UART is the transmitting half of a serial port that is always ready. It
// never interrupts and receives nothing.
type UART struct {
	out io.Writer

	mu   sync.Mutex
	regs [uartPorts]byte // as written; scratch for what has no effect
}

// NewUART makes a serial port that writes to out, one byte at a time, under a
// lock: out must not block.
func NewUART(out io.Writer) *UART { return &UART{out: out} }

// Read implements bus.Device.
func (u *UART) Read(offset uint64, p []byte) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i := range p {
		p[i] = u.read(offset + uint64(i))
	}
}

func (u *UART) read(offset uint64) byte {
	switch {
	case offset == uartLineStatus:
		return uartReady
	case offset == uartLineCtl:
		return u.regs[uartLineCtl]
	case offset < 2 && u.regs[uartLineCtl]&uartDLAB != 0:
		return u.regs[offset]
	default:
		return 0
	}
}

// Write implements bus.Device.
func (u *UART) Write(offset uint64, p []byte) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i := range p {
		u.write(offset+uint64(i), p[i:i+1])
	}
}

func (u *UART) write(offset uint64, b []byte) {
	if offset == uartData && u.regs[uartLineCtl]&uartDLAB == 0 {
		_, _ = u.out.Write(b)
		return
	}
	if offset < uartPorts {
		u.regs[offset] = b[0]
	}
}
