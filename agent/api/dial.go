package api

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
)

// Lines of [Dial].
const (
	dialVerb    = "DIAL "
	dialed      = "OK"
	dialRefused = "ERR "

	// maxDialLine is more than the longest of them.
	maxDialLine = 256
)

// ErrRefused says that the guest has not connected to an address.
var ErrRefused = errors.New("refused in the guest")

// Dial has the agent connect conn, a fresh connection to [PortDial], to a TCP
// address of the containers' own network namespace. Afterwards conn carries
// what that connection does, in both directions, each with its end.
func Dial(conn io.ReadWriter, to netip.AddrPort) error { return ask(conn, dialVerb, to) }

func ask(conn io.ReadWriter, verb string, to netip.AddrPort) error {
	if _, err := io.WriteString(conn, verb+to.String()+"\n"); err != nil {
		return fmt.Errorf("dial %s in the guest: %w", to, err)
	}
	line, err := readLine(conn, maxDialLine)
	if err != nil {
		return fmt.Errorf("dial %s in the guest: %w", to, err)
	}
	if cause, ok := strings.CutPrefix(line, dialRefused); ok {
		return fmt.Errorf("dial %s: %w: %q", to, ErrRefused, cause)
	}
	if line != dialed {
		return fmt.Errorf("dial %s in the guest: unexpected answer %q", to, line)
	}
	return nil
}

// ReadDial is the agent's side of [Dial] and [ServeNames] up to the answer.
func ReadDial(r io.Reader) (to netip.AddrPort, names bool, err error) {
	line, err := readLine(r, maxDialLine)
	if err != nil {
		return to, false, fmt.Errorf("read address to dial: %w", err)
	}
	text, ok := strings.CutPrefix(line, dialVerb)
	if !ok {
		if text, names = strings.CutPrefix(line, namesVerb); !names {
			return to, false, fmt.Errorf("read address to dial: unexpected line %q", line)
		}
	}
	if to, err = netip.ParseAddrPort(text); err != nil {
		return to, names, fmt.Errorf("read address to dial: %w", err)
	}
	return to, names, nil
}

// AnswerDial is the agent's answer: that it is connected, or why it is not.
func AnswerDial(w io.Writer, cause error) error {
	line := dialed
	if cause != nil {
		text := strings.ReplaceAll(cause.Error(), "\n", " ")
		line = dialRefused + text[:min(len(text), maxDialLine-len(dialRefused))]
	}
	_, err := io.WriteString(w, line+"\n")
	return err
}
