package stdio

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// NewPTY makes a pseudoterminal: the master is for whoever shows the terminal,
// the slave, which is in raw mode, for the relay. Both are the caller's.
func NewPTY() (master *os.File, slave *Terminal, err error) {
	master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("create terminal: %w", err)
	}
	slave, err = openSlave(master)
	if err == nil {
		// Before anybody else can see it: who changes the mode later reads
		// it first and keeps it raw.
		err = slave.Raw()
	}
	if err != nil {
		master.Close()
		return nil, nil, err
	}
	slave.saved = nil // nobody sees the old mode again
	return master, slave, nil
}

func openSlave(master *os.File) (*Terminal, error) {
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return nil, fmt.Errorf("unlock terminal: %w", err)
	}
	n, err := unix.IoctlGetUint32(fd, unix.TIOCGPTN)
	if err != nil {
		return nil, fmt.Errorf("name terminal: %w", err)
	}
	f, err := os.OpenFile("/dev/pts/"+strconv.Itoa(int(n)), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, fmt.Errorf("open terminal: %w", err)
	}
	return &Terminal{f: f}, nil
}

// SendTerminal sends master to the unix socket at path, as runc does for
// --console-socket; master stays the caller's.
func SendTerminal(path string, master *os.File) error {
	if err := sendDescriptor(path, master.Name(), int(master.Fd())); err != nil {
		return fmt.Errorf("send terminal to console socket: %w", err)
	}
	return nil
}
