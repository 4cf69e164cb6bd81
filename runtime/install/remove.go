package install

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// ErrNotInstalled says that there is nothing to undo.
var ErrNotInstalled = errors.New("nothing is installed there")

// Remove undoes an installation. It calls tell with each step; with dry it does
// no more than that. A configuration that others have changed since keeps their
// changes; where it does not say how, it is left with an error.
func Remove(prefix string, dry bool, tell func(step string)) error {
	r, err := loadRecord(prefix)
	if err != nil {
		return err
	}
	if len(r.Files) == 0 {
		return fmt.Errorf("uninstall from %s: %w", prefix, ErrNotInstalled)
	}
	var left []entry
	var problems []error
	for i := len(r.Files) - 1; i >= 0; i-- {
		step, do, err := r.Files[i].undo()
		if err == nil && step != "" {
			tell(step)
		}
		if err == nil && !dry {
			err = do()
		}
		if err != nil {
			problems = append(problems, err)
			left = append([]entry{r.Files[i]}, left...)
		}
	}
	switch {
	case dry:
	case len(left) == 0:
		problems = append(problems, r.forget(prefix))
	default:
		problems = append(problems, record{r.Dirs, left}.save(prefix))
	}
	return errors.Join(problems...)
}

func nothing() error { return nil }

// undo says how to make the file what it was before; step is "" if it is.
func (e entry) undo() (step string, do func() error, err error) {
	now, err := os.ReadFile(e.Path)
	gone := errors.Is(err, fs.ErrNotExist)
	if err != nil && !gone {
		return "", nil, fmt.Errorf("uninstall: %w", err)
	}
	var before []byte
	if e.Before != "" {
		if before, err = os.ReadFile(e.Before); err != nil {
			return "", nil, fmt.Errorf("uninstall: %w", err)
		}
	}
	restore := func(content []byte) func() error {
		return func() error { return writeFile(e.Path, content, e.Mode) }
	}
	switch {
	case gone && e.Before == "", !gone && e.Before != "" && string(now) == string(before):
		return "", nothing, nil
	case !e.Config, sum(now) == e.Sum, gone:
		if e.Before == "" {
			return "remove " + e.Path, func() error { return os.Remove(e.Path) }, nil
		}
		return "restore " + e.Path, restore(before), nil
	case e.Inserted != "" && e.Before != "" && strings.Count(string(now), e.Inserted) == 1:
		return "take the runtime out of " + e.Path, restore([]byte(strings.Replace(string(now), e.Inserted, "", 1))), nil
	}
	return "", nil, fmt.Errorf("uninstall: %s was changed since: take the runtime %s out by hand, and remove its entry from the record", e.Path, Name)
}
