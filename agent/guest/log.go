package guest

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/sirupsen/logrus"
)

// mostWarnings bounds what is kept for the host, in lines.
const mostWarnings = 32

// Warnings keeps what libcontainer warns of until the host asks for it. It is
// a hook for logrus.
type Warnings struct {
	mu    sync.Mutex
	lines []string
}

// Levels implements [logrus.Hook].
func (w *Warnings) Levels() []logrus.Level { return []logrus.Level{logrus.WarnLevel} }

// Fire implements [logrus.Hook].
func (w *Warnings) Fire(e *logrus.Entry) error {
	line := e.Message
	if err, ok := e.Data[logrus.ErrorKey]; ok {
		line += ": " + fmt.Sprint(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lines = append(w.lines, line); len(w.lines) > mostWarnings {
		w.lines = w.lines[1:]
	}
	return nil
}

// Take returns what is kept, and keeps it no longer.
func (w *Warnings) Take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	lines := w.lines
	w.lines = nil
	return lines
}

// ConfigureLog makes libcontainer's log lines plain and, unless the kernel was
// asked to be verbose, prints errors only: each line on the console stops the
// machine for a moment. Warnings are kept for the host.
func ConfigureLog() *Warnings {
	plain := &logrus.TextFormatter{DisableColors: true, DisableTimestamp: true}
	logrus.SetFormatter(plain)
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err == nil && slices.Contains(strings.Fields(string(cmdline)), "quiet") {
		logrus.SetLevel(logrus.WarnLevel)
		logrus.SetFormatter(errorsOnly{plain})
	}
	w := new(Warnings)
	logrus.AddHook(w)
	return w
}

// errorsOnly prints nothing for what is less than an error.
type errorsOnly struct{ logrus.Formatter }

// Format implements [logrus.Formatter].
func (f errorsOnly) Format(e *logrus.Entry) ([]byte, error) {
	if e.Level > logrus.ErrorLevel {
		return nil, nil
	}
	return f.Formatter.Format(e)
}
