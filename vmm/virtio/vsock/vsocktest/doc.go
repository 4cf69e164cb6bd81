// Package vsocktest tries vsock between a host and a real guest kernel: Run is
// the host's half, Guest is the guest's, which a test binary calls when it was
// booted as init. Every machine runs the same.
package vsocktest

// Ports that the guest's half listens on. It dials ReadyPort of the host once
// all are open and writes Ready.
const (
	EchoPort    = 2000 // sends back what it gets, half-closes after the end
	SumPort     = 2001 // answers with the SHA-256 in hex of what it got
	SourcePort  = 2002 // gets a decimal number and a newline, sends as many bytes of Pattern
	HangUpPort  = 2003 // says "bye" and closes without reading
	StallPort   = 2004 // as SumPort, but starts to read when ReleasePort is dialled
	ReleasePort = 2005 // see StallPort; closes at once
	OffPort     = 2006 // switches the machine off

	ReadyPort = 1024
	Ready     = "ready\n"
)

// Pattern fills p with bytes that depend on their offset in the stream, which
// is off for the first.
func Pattern(p []byte, off int) {
	for i := range p {
		n := uint32(off+i)*2654435761 + 12345
		p[i] = byte(n >> 24)
	}
}
