package guest

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/sirupsen/logrus"
)

func TestWarningsAreKeptOnce(t *testing.T) {
	l, w := logrus.New(), new(Warnings)
	l.AddHook(w)
	l.SetFormatter(errorsOnly{l.Formatter})
	var printed printedLines
	l.SetOutput(&printed)
	l.WithError(errors.New("cause")).Warn("left out")
	l.Error("no warning")
	l.Info("neither")
	if got := w.Take(); !slices.Equal(got, []string{"left out: cause"}) {
		t.Errorf("%q", got)
	}
	if got := w.Take(); got != nil {
		t.Errorf("again: %q", got)
	}
	if printed != 1 {
		t.Errorf("%d lines were printed, not the error only", printed)
	}
	for i := range 2 * mostWarnings {
		l.Warn(i)
	}
	if got := w.Take(); len(got) != mostWarnings || got[0] != fmt.Sprint(mostWarnings) {
		t.Errorf("%d lines from %q on", len(got), got[0])
	}
}

// printedLines counts what is not empty.
type printedLines int

func (n *printedLines) Write(p []byte) (int, error) {
	if len(p) > 0 {
		*n++
	}
	return len(p), nil
}
