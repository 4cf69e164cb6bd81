package sandbox

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/microvm/microvm/agent/api"
)

// processLog reads what the VM process logs: JSON lines, or plain text when it
// dies. Errors go to the log as such, all else only to those who debug: the
// log may be the container's own stderr.
//
// Neither is believed more than the guest: there are not many records, and nothing
// in them that a terminal acts on.
type processLog struct {
	log *logrus.Entry

	// Of the reader only: how many more records the second that ends then may have.
	left int
	ends time.Time

	mu   sync.Mutex
	tail []string // last lines of plain text
}

// tailLines is how much of a dying process's words is kept.
const tailLines = 20

// Bounds of what the log takes.
const (
	perSecond  = 50   // records
	mostText   = 4096 // bytes of each field
	mostFields = 16
	mostKey    = 64 // bytes
)

// allow counts a record, and tells whether it may be logged. The first too many in
// a second says so.
func (p *processLog) allow(now time.Time) bool {
	if !now.Before(p.ends) {
		p.left, p.ends = perSecond, now.Add(time.Second)
	}
	p.left--
	if p.left == -1 {
		p.log.Error("the VM process logs too much; the rest of this second is dropped")
	}
	return p.left >= 0
}

// read runs until r's end.
func (p *processLog) read(r io.Reader) {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 4096), 1<<20)
	for s.Scan() {
		p.line(s.Text())
	}
}

func (p *processLog) line(text string) {
	if !p.allow(time.Now()) {
		return
	}
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
	p.log.WithFields(printable(fields)).Log(level, api.Printable(msg, mostText))
}

// printable makes fields that can be shown, and not many.
func printable(fields logrus.Fields) logrus.Fields {
	shown := logrus.Fields{}
	for key, value := range fields {
		if len(shown) == mostFields {
			break
		}
		switch value.(type) {
		case bool, float64:
		default:
			value = api.Printable(fmt.Sprint(value), mostText)
		}
		shown[api.Printable(key, mostKey)] = value
	}
	return shown
}

func (p *processLog) plain(text string) {
	text = api.Printable(text, mostText)
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
