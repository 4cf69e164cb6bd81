package main

import (
	"fmt"
	"os"
	"os/signal"

	"github.com/microvm/microvm/tests/lab"
	"github.com/microvm/microvm/tests/lab/wire"
	"golang.org/x/sys/unix"
)

// useTerminal gives the command a terminal that mirrors this process's own, and
// returns what puts that back as it was.
func useTerminal(options *lab.Options) (restore func(), err error) {
	fd := int(os.Stdin.Fd())
	size, err := terminalSize(fd)
	if err != nil {
		return nil, fmt.Errorf("use terminal: standard input is none: %w", err)
	}
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("read terminal's mode: %w", err)
	}
	raw := *before
	makeRaw(&raw)
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &raw); err != nil {
		return nil, fmt.Errorf("set terminal's mode: %w", err)
	}
	options.Terminal = &size
	sizes, stop := watchSize(fd)
	options.Sizes = sizes
	return func() {
		stop()
		unix.IoctlSetTermios(fd, unix.TCSETS, before)
	}, nil
}

// makeRaw is cfmakeraw of termios(3).
func makeRaw(t *unix.Termios) {
	t.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	t.Oflag &^= unix.OPOST
	t.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	t.Cflag = t.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
}

func terminalSize(fd int) (wire.Size, error) {
	size, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ)
	if err != nil {
		return wire.Size{}, err
	}
	return wire.Size{Rows: size.Row, Columns: size.Col}, nil
}

// watchSize sends the terminal's size whenever it changes.
func watchSize(fd int) (<-chan wire.Size, func()) {
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, unix.SIGWINCH)
	sizes := make(chan wire.Size, 1)
	go func() {
		for range changed {
			if size, err := terminalSize(fd); err == nil {
				select {
				case sizes <- size:
				default:
				}
			}
		}
	}()
	return sizes, func() {
		signal.Stop(changed)
		close(changed)
	}
}
