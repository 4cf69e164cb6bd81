package sandbox

import (
	"bufio"
	"encoding/json"
	"io"
	"strings"
	"sync"

	"github.com/sirupsen/logrus"
)

// processLog reads what the VM process logs: JSON lines, or plain text when it
// dies. Errors go to the log as such, all else only to those who debug: the
// log may be the container's own stderr.
type processLog struct {
	log *logrus.Entry

	mu   sync.Mutex
	tail []string // last lines of plain text
}

// tailLines is how much of a dying process's words is kept.
const tailLines = 20

// read runs until r's end.
func (p *processLog) read(r io.Reader) {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 4096), 1<<20)
	for s.Scan() {
		p.line(s.Text())
	}
}

func (p *processLog) line(text string) {
	var fields logrus.Fields
	if json.Unmarshal([]byte(text), &fields) != nil {
		p.plain(text)
		return
	}
	level, err := logrus.ParseLevel(take(fields, logrus.FieldKeyLevel))
	msg := take(fields, logrus.FieldKeyMsg)
	delete(fields, logrus.FieldKeyTime)
	if err != nil || level > logrus.ErrorLevel {
		level = logrus.DebugLevel
	}
	if level < logrus.ErrorLevel {
		level = logrus.ErrorLevel // fatal is the VM process's end, not this one's
	}
	p.log.WithFields(fields).Log(level, msg)
}

func (p *processLog) plain(text string) {
	p.log.WithField("component", "vmm").Debug(text)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tail = append(p.tail, text)
	if len(p.tail) > tailLines {
		p.tail = p.tail[1:]
	}
}

// last returns the last plain lines.
func (p *processLog) last() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.tail, "\n")
}

func take(f logrus.Fields, key string) string {
	s, _ := f[key].(string)
	delete(f, key)
	return s
}
