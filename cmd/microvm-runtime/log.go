package main

import (
	"errors"
	"io"
	"os"

	containerdlog "github.com/containerd/log"
	"github.com/sirupsen/logrus"
	"github.com/urfave/cli/v2"
)

// configureLog sets the standard logger up as runc does.
func configureLog(c *cli.Context) error {
	if c.Bool("debug") {
		logrus.SetLevel(logrus.DebugLevel)
	}
	switch f := c.String("log-format"); f {
	case "", "text":
	case "json":
		logrus.SetFormatter(new(logrus.JSONFormatter))
	default:
		return errors.New("invalid log-format: " + f)
	}
	quietLibraries(c.Bool("debug"))
	file := c.String("log")
	if file == "" {
		return nil
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	logrus.SetOutput(f)
	return nil
}

func logsToStderr() bool { return logrus.StandardLogger().Out == os.Stderr }

// quietLibraries keeps what ttrpc logs about cancelled calls from those who do
// not debug: the log may be a container's stderr.
func quietLibraries(debug bool) {
	if debug {
		return
	}
	silent := logrus.New()
	silent.SetOutput(io.Discard)
	containerdlog.L = logrus.NewEntry(silent)
}
