// Command lab runs commands where /dev/kvm is true hardware virtualisation, in
// a virtual machine if the host's is not; see package lab.
//
// It has to be built with CGO_ENABLED=0, as it is also the init of that machine.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/microvm/microvm/tests/lab"
	"github.com/microvm/microvm/tests/lab/guest"
)

// Exit codes of the lab's own failures, as of timeout(1).
const (
	exitUsage   = 2
	exitTimeout = 124
	exitLab     = 125
)

const usage = `usage: lab deps                     install or unpack what the lab needs
       lab check                    say whether commands run here or in a machine
       lab shell [flags] [cmd...]   an interactive shell, on a terminal
       lab run [flags] [--] cmd...  run a command; its exit code is lab's

flags:
`

func main() {
	if guest.IsInit() {
		guest.Main()
	}
	if len(os.Args) < 2 {
		printUsage()
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	switch verb := os.Args[1]; verb {
	case "deps":
		if err := lab.Prepare(ctx, os.Stderr); err != nil {
			fail(exitLab, err)
		}
	case "check":
		check()
	case "shell", "run":
		os.Exit(runVerb(ctx, verb == "shell", os.Args[2:]))
	default:
		printUsage()
	}
}

func check() {
	if err := lab.CheckHardware(); err != nil {
		fmt.Println("virtual machine:", err)
		return
	}
	fmt.Println("this host: its KVM is true hardware virtualisation")
}

func printUsage() {
	fmt.Fprint(os.Stderr, usage[:strings.Index(usage, "\nflags:")+1])
	os.Exit(exitUsage)
}

func fail(code int, err error) {
	fmt.Fprintln(os.Stderr, "lab:", strings.TrimSuffix(err.Error(), "\n"))
	os.Exit(code)
}

// arguments are what the command line of run and shell said.
type arguments struct {
	options      lab.Options
	timeout      time.Duration
	forceMachine bool
}

func parse(interactive bool, args []string) *arguments {
	a := &arguments{}
	var env, scratch list
	var verbose bool
	flags := flag.NewFlagSet("lab", flag.ExitOnError)
	flags.Usage = func() {
		fmt.Fprint(os.Stderr, usage)
		flags.PrintDefaults()
	}
	flags.StringVar(&a.options.OutputDir, "out", "", "`directory` that the command sees, writable, at "+guest.OutputDir)
	flags.StringVar(&a.options.Dir, "dir", "", "working `directory` (the current one)")
	flags.Var(&env, "env", "`NAME=value` to add to the environment; repeatable")
	flags.Var(&scratch, "scratch", "`directory` to be empty and on a real file system; repeatable")
	flags.TextVar(&a.options.Network, "network", netip.Prefix{}, "join host and machine by this `prefix`: the host has its first address, the machine the second")
	flags.IntVar(&a.options.MemoryMiB, "memory", 4096, "machine's memory in `MiB`")
	flags.IntVar(&a.options.CPUs, "cpus", 1, "machine's `number` of CPUs; guests are not sound with more")
	flags.DurationVar(&a.timeout, "timeout", 0, "end the machine after this `duration` (0: never)")
	flags.BoolVar(&a.forceMachine, "machine", false, "use a virtual machine even where the host's KVM would do")
	flags.BoolVar(&verbose, "v", false, "show the machine's console on standard error")
	flags.Parse(args)
	a.options.Args = flags.Args()
	if len(a.options.Args) == 0 && interactive {
		a.options.Args = []string{shell(), "-i"}
	}
	if len(a.options.Args) == 0 {
		flags.Usage()
		os.Exit(exitUsage)
	}
	a.options.Env = append(os.Environ(), env...)
	a.options.Scratch = scratch
	if verbose {
		a.options.Console = os.Stderr
	}
	return a
}

func shell() string {
	if path := os.Getenv("SHELL"); path != "" {
		return path
	}
	return "/bin/bash"
}

// runVerb runs the command where it can have KVM and returns lab's exit code.
func runVerb(ctx context.Context, interactive bool, args []string) int {
	a := parse(interactive, args)
	if a.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, a.timeout)
		defer cancel()
	}
	if !a.forceMachine && lab.CheckHardware() == nil {
		return report(runHere(ctx, &a.options))
	}
	ctx, signals, stop := catchSignals(ctx)
	defer stop()
	a.options.Signals = signals
	a.options.Stdin, a.options.Stdout, a.options.Stderr = os.Stdin, os.Stdout, os.Stderr
	if interactive {
		restore, err := useTerminal(&a.options)
		if err != nil {
			return report(0, err)
		}
		defer restore()
	}
	return report(lab.Run(ctx, a.options))
}

func report(code int, err error) int {
	if err == nil {
		return code
	}
	fmt.Fprintln(os.Stderr, "lab:", err)
	if errors.Is(err, context.DeadlineExceeded) {
		return exitTimeout
	}
	return exitLab
}

// list is a flag that may be given several times.
type list []string

func (l *list) String() string { return strings.Join(*l, " ") }

func (l *list) Set(value string) error {
	*l = append(*l, value)
	return nil
}
