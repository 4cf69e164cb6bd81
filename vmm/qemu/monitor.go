package qemu

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
)

// monitor reads QMP, QEMU's control protocol: a JSON object per line, first a
// greeting, later events.
type monitor struct {
	once  sync.Once
	ready chan struct{} // closed when QEMU has answered, or never will

	mu       sync.Mutex
	greeted  bool
	shutdown string
}

// maxLine bounds a message in bytes; ours are shorter.
const maxLine = 64 << 10

// message has what is looked at of a greeting or an event.
type message struct {
	QMP    json.RawMessage `json:"QMP"`
	Return json.RawMessage `json:"return"`
	Event  string          `json:"event"`
	Data   struct {
		Reason string `json:"reason"`
	} `json:"data"`
}

// run asks for events and reads them until QEMU closes f. QEMU answers when it
// has built the machine.
func (m *monitor) run(f *os.File) error {
	defer m.settle()
	if _, err := io.WriteString(f, `{"execute":"qmp_capabilities"}`+"\n"); err != nil {
		return fmt.Errorf("write to QEMU's monitor: %w", err)
	}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var msg message
		// What does not parse tells nothing; QEMU may be under the guest's
		// control.
		if json.Unmarshal(lines.Bytes(), &msg) == nil {
			m.note(msg)
		}
	}
	// A line that is too long must not block QEMU.
	_, err := io.Copy(io.Discard, f)
	return err
}

func (m *monitor) note(msg message) {
	if msg.Return != nil {
		m.settle()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if msg.QMP != nil {
		m.greeted = true
	}
	if msg.Event == "SHUTDOWN" && m.shutdown == "" {
		m.shutdown = msg.Data.Reason
	}
}

func (m *monitor) settle() { m.once.Do(func() { close(m.ready) }) }

// resume has the guest run.
func (m *monitor) resume(f *os.File) error {
	if _, err := io.WriteString(f, `{"execute":"cont"}`+"\n"); err != nil {
		return fmt.Errorf("write to QEMU's monitor: %w", err)
	}
	return nil
}

func (m *monitor) state() (greeted bool, shutdown string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.greeted, m.shutdown
}
