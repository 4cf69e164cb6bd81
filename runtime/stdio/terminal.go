package stdio

import (
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// Terminal is a terminal on this side.
type Terminal struct {
	f     *os.File
	saved *unix.Termios
}

// OpenTerminal finds the caller's terminal: one of the standard streams, else
// the controlling one.
func OpenTerminal() (*Terminal, error) {
	for _, f := range []*os.File{os.Stderr, os.Stdout, os.Stdin} {
		if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err == nil {
			return &Terminal{f: f}, nil
		}
	}
	f, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return &Terminal{f: f}, nil
}

// FD is for reading, writing and ioctls; it is t's.
func (t *Terminal) FD() int { return int(t.f.Fd()) }

// Raw makes the terminal pass every byte on as it is: the guest's terminal
// does all editing and signals. Restore undoes it.
func (t *Terminal) Raw() error { return t.setRaw(0) }

// RawInput is Raw for what is typed: what is shown is treated as before, a
// newline gets its carriage return here.
func (t *Terminal) RawInput() error { return t.setRaw(unix.OPOST) }

// setRaw makes the terminal raw but for the output flags keep.
func (t *Terminal) setRaw(keep uint32) error {
	old, err := unix.IoctlGetTermios(t.FD(), unix.TCGETS)
	if err != nil {
		return fmt.Errorf("make terminal raw: %w", err)
	}
	raw := rawMode(*old)
	raw.Oflag |= old.Oflag & keep
	if err := unix.IoctlSetTermios(t.FD(), unix.TCSETS, &raw); err != nil {
		return fmt.Errorf("make terminal raw: %w", err)
	}
	t.saved = old
	return nil
}

// rawMode is cfmakeraw(3).
func rawMode(m unix.Termios) unix.Termios {
	m.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	m.Oflag &^= unix.OPOST
	m.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	m.Cflag &^= unix.CSIZE | unix.PARENB
	m.Cflag |= unix.CS8
	m.Cc[unix.VMIN], m.Cc[unix.VTIME] = 1, 0
	return m
}

// Restore brings back the mode from before Raw; without Raw it does nothing.
func (t *Terminal) Restore() error {
	if t.saved == nil {
		return nil
	}
	// TCSETSW lets written output through first.
	err := unix.IoctlSetTermios(t.FD(), unix.TCSETSW, t.saved)
	t.saved = nil
	if err != nil {
		return fmt.Errorf("restore terminal: %w", err)
	}
	return nil
}

// Size is the terminal's, in characters; zero when it does not know.
func (t *Terminal) Size() (width, height int) {
	ws, err := unix.IoctlGetWinsize(t.FD(), unix.TIOCGWINSZ)
	if err != nil {
		return 0, 0
	}
	return int(ws.Col), int(ws.Row)
}

// SetSize sets the terminal's size in characters.
func (t *Terminal) SetSize(width, height int) error {
	ws := &unix.Winsize{Col: uint16(width), Row: uint16(height)}
	if err := unix.IoctlSetWinsize(t.FD(), unix.TIOCSWINSZ, ws); err != nil {
		return fmt.Errorf("set terminal size: %w", err)
	}
	return nil
}

// TakeControl makes t the controlling terminal of this process, which has to
// lead a session without one: only such a process gets SIGWINCH.
func (t *Terminal) TakeControl() error {
	if err := unix.IoctlSetInt(t.FD(), unix.TIOCSCTTY, 0); err != nil {
		return fmt.Errorf("take terminal: %w", err)
	}
	return nil
}

// Close restores the terminal and closes it, unless it is a standard stream.
func (t *Terminal) Close() error {
	err := t.Restore()
	if !slices.Contains([]*os.File{os.Stdin, os.Stdout, os.Stderr}, t.f) {
		t.f.Close()
	}
	return err
}
