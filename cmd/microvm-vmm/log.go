package main

import (
	"fmt"
	"os"

	"github.com/sirupsen/logrus"

	"github.com/microvm/microvm/vmm/control"
)

// openLog makes the logger: JSON lines on the descriptor of the configuration,
// or on stderr.
func openLog(c *control.Config) (*logrus.Entry, error) {
	l := logrus.New()
	l.SetFormatter(&logrus.JSONFormatter{})
	if c.Log != 0 {
		f, err := openFile(c.Log, "log")
		if err != nil {
			return nil, fmt.Errorf("open log: %w", err)
		}
		l.SetOutput(f)
	} else {
		l.SetOutput(os.Stderr)
	}
	if c.Debug {
		l.SetLevel(logrus.DebugLevel)
	}
	return l.WithFields(logrus.Fields{"sandbox": c.ID, "component": "vmm"}), nil
}
