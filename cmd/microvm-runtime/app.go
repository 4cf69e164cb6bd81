package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/sirupsen/logrus"
	"github.com/urfave/cli/v2"
)

const usage = "run containers, each in a machine of its own"

const description = `microvm-runtime is a command line client for running applications packaged
according to the Open Container Initiative (OCI) format. It takes the place of
runc, and runs every container on a kernel of its own, in a small virtual
machine.

A bundle is a directory with a specification file named "config.json" and a
root file system. To start a new instance of a container:

    # microvm-runtime run [ -b bundle ] <container-id>`

// run is main without the exit.
func run(args []string) int {
	if err := markDescriptors(); err != nil {
		return fail(err)
	}
	app := newApp()
	err := app.Run(permute(app, args))
	var code exitCode
	if errors.As(err, &code) && code.err == nil {
		return code.code
	}
	return fail(err)
}

func newApp() *cli.App {
	cli.VersionPrinter = printVersion
	// Errors are printed by run, in the format of the log.
	cli.OsExiter = func(int) {}
	return &cli.App{
		Name:           "microvm-runtime",
		Usage:          usage,
		Description:    description,
		Version:        version,
		Flags:          globalFlags(),
		Before:         prepare,
		ErrWriter:      io.Discard,
		ExitErrHandler: func(*cli.Context, error) {},
		Action:         noVerb,
		Commands:       commands(),
		// A comma in --env is part of the value.
		DisableSliceFlagSeparator: true,
	}
}

func commands() []*cli.Command {
	all := []*cli.Command{
		createCommand(), deleteCommand(), execCommand(), killCommand(), listCommand(), pauseCommand(), psCommand(), resumeCommand(), runCommand(),
		specCommand(), startCommand(), stateCommand(), featuresCommand(), checkCommand(), monitorCommand(), exhaustCommand(),
		updateCommand(), eventsCommand(), checkpointCommand(), restoreCommand(),
		installCommand(), uninstallCommand(), manifestCommand(),
	}
	for _, c := range all {
		c.HideHelpCommand = true // a container may be called "help"
	}
	return all
}

func globalFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "debug", Usage: "enable debug logging"},
		&cli.StringFlag{Name: "log", Usage: "set the log file to write logs to (default is '/dev/stderr')"},
		&cli.StringFlag{Name: "log-format", Value: "text", Usage: "set the log format ('text' (default), or 'json')"},
		&cli.StringFlag{Name: "root", Value: defaultRoot(), Usage: "root directory for storage of container state (this should be located in tmpfs)"},
		&cli.StringFlag{Name: "criu", Hidden: true, Usage: "ignored"},
		&cli.BoolFlag{Name: "systemd-cgroup", Usage: `let systemd make the cgroup of the machine, expects cgroupsPath to be of form "slice:prefix:name"`},
		&cli.StringFlag{Name: "rootless", Value: "auto", Usage: "accepted ('true', 'false', or 'auto')"},
		&cli.StringFlag{Name: "config", Usage: "configuration `file` (default: /etc/microvm/config.toml, if it exists)"},
		&cli.StringFlag{Name: "machine", Usage: "the machine to use: auto, kvm or software"},
	}
}

// prepare makes sense of the global flags.
func prepare(c *cli.Context) error {
	if err := reviseRoot(c); err != nil {
		return err
	}
	return configureLog(c)
}

// noVerb is called without a verb, or with an unknown one.
func noVerb(c *cli.Context) error {
	if c.NArg() == 0 {
		return cli.ShowAppHelp(c)
	}
	//lint:ignore ST1005 runc's words
	return exitCode{3, fmt.Errorf("No help topic for '%s'", c.Args().First())}
}

func printVersion(c *cli.Context) {
	fmt.Fprintln(c.App.Writer, c.App.Name, "version", c.App.Version)
	fmt.Fprintln(c.App.Writer, "spec:", specs.Version)
	fmt.Fprintln(c.App.Writer, "go:", runtime.Version())
}

// fail reports err and returns the code to exit with.
func fail(err error) int {
	if err == nil {
		return 0
	}
	logrus.Error(err)
	if !logsToStderr() {
		fmt.Fprintln(os.Stderr, err)
	}
	return codeOf(err)
}
