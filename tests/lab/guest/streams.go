package guest

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/microvm/microvm/tests/lab/wire"
	"golang.org/x/sys/unix"
)

// streams are both ends of a command's standard streams.
type streams struct {
	// child are the three descriptors that the command gets.
	child [3]*os.File
	// input is where its standard input is written.
	input *os.File
	// outputs are read to their ends, each into frames of its kind.
	outputs map[wire.Kind]*os.File
	// terminal is the master side if there is one.
	terminal *os.File
}

// newStreams makes pipes, or a terminal of the given size.
func newStreams(size *wire.Size) (*streams, error) {
	if size == nil {
		return newPipes()
	}
	return newTerminal(*size)
}

func newPipes() (*streams, error) {
	var ends [3][2]*os.File
	for i := range ends {
		reader, writer, err := os.Pipe()
		if err != nil {
			return nil, fmt.Errorf("make pipe: %w", err)
		}
		ends[i] = [2]*os.File{reader, writer}
	}
	return &streams{
		child:   [3]*os.File{ends[0][0], ends[1][1], ends[2][1]},
		input:   ends[0][1],
		outputs: map[wire.Kind]*os.File{wire.KindStdout: ends[1][0], wire.KindStderr: ends[2][0]},
	}, nil
}

func newTerminal(size wire.Size) (*streams, error) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		return nil, fmt.Errorf("unlock terminal: %w", err)
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		return nil, fmt.Errorf("name terminal: %w", err)
	}
	slave, err := os.OpenFile(fmt.Sprint("/dev/pts/", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	s := &streams{
		child:    [3]*os.File{slave, slave, slave},
		input:    master,
		outputs:  map[wire.Kind]*os.File{wire.KindStdout: master},
		terminal: master,
	}
	return s, s.resize(size)
}

// resize does nothing for pipes.
func (s *streams) resize(size wire.Size) error {
	if s.terminal == nil {
		return nil
	}
	return unix.IoctlSetWinsize(int(s.terminal.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: size.Rows, Col: size.Columns})
}

// closeChildSide drops what only the command is to hold.
func (s *streams) closeChildSide() {
	for _, file := range s.child {
		file.Close()
	}
}

// endInput tells the command that its input has ended.
func (s *streams) endInput() {
	if s.terminal != nil {
		s.input.Write([]byte{4}) // the terminal's end-of-file character
		return
	}
	s.input.Close()
}

// feedInput copies the input port to the command until it ends or the command
// stops reading; then it drains the port, so that the host never blocks.
func feedInput(port io.Reader, s *streams) {
	for broken := false; ; {
		kind, payload, err := wire.Read(port)
		if err != nil || kind != wire.KindStdin {
			return
		}
		if len(payload) == 0 {
			s.endInput()
			return
		}
		if !broken {
			_, err := s.input.Write(payload)
			broken = err != nil
		}
	}
}

// obey carries out the host's signals and resizes.
func obey(control io.Reader, pid int, s *streams) {
	for {
		kind, payload, err := wire.Read(control)
		if err != nil {
			return
		}
		switch kind {
		case wire.KindSignal:
			var signal unix.Signal
			if json.Unmarshal(payload, &signal) == nil {
				unix.Kill(-pid, signal)
			}
		case wire.KindResize:
			var size wire.Size
			if json.Unmarshal(payload, &size) == nil {
				s.resize(size)
			}
		}
	}
}

// sender writes frames to the control port for several goroutines.
type sender struct {
	mu   sync.Mutex
	port io.Writer
}

func (s *sender) send(kind wire.Kind, payload []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return wire.Write(s.port, kind, payload)
}

// relay sends all that reader gives until its end.
func (s *sender) relay(kind wire.Kind, reader io.Reader) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := reader.Read(buffer)
		if n > 0 && s.send(kind, buffer[:n]) != nil {
			return
		}
		if err != nil {
			return
		}
	}
}
