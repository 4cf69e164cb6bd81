package guest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/microvm/microvm/tests/lab/wire"
	"golang.org/x/sys/unix"
)

// portWait is how long the kernel may take to announce a virtio-serial port.
const portWait = 10 * time.Second

// openPort opens the virtio-serial port of that name, as soon as it exists.
func openPort(name string) (*os.File, error) {
	for deadline := time.Now().Add(portWait); ; time.Sleep(5 * time.Millisecond) {
		if device := findPort(name); device != "" {
			return openDevice(device)
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("open port %s: no such virtio-serial port after %v", name, portWait)
		}
	}
}

func findPort(name string) string {
	names, _ := filepath.Glob("/sys/class/virtio-ports/*/name")
	for _, path := range names {
		if text, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(text)) == name {
			return "/dev/" + filepath.Base(filepath.Dir(path))
		}
	}
	return ""
}

// openDevice opens a port for blocking reads and writes: one goroutine reads it
// while another writes it, for as long as the machine runs.
func openDevice(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

func readStart(control *os.File) (*wire.Start, error) {
	kind, payload, err := wire.Read(control)
	if err != nil {
		return nil, fmt.Errorf("read start frame: %w", err)
	}
	if kind != wire.KindStart {
		return nil, fmt.Errorf("read start frame: got kind %d", kind)
	}
	start := new(wire.Start)
	if err := json.Unmarshal(payload, start); err != nil {
		return nil, fmt.Errorf("decode start frame: %w", err)
	}
	if len(start.Args) == 0 {
		return nil, fmt.Errorf("decode start frame: no command")
	}
	return start, nil
}
