package main

import (
	"context"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
)

// graceAfterSignal is how long a command may take to end after a signal that
// would have ended it here.
const graceAfterSignal = 10 * time.Second

// catchSignals passes signals on to the command. If it does not end of SIGINT,
// SIGTERM or SIGHUP, the machine does.
func catchSignals(parent context.Context) (context.Context, <-chan os.Signal, func()) {
	ctx, cancel := context.WithCancel(parent)
	caught := make(chan os.Signal, 8)
	passed := make(chan os.Signal, 8)
	signal.Notify(caught, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT)
	go func() {
		for s := range caught {
			if s != unix.SIGQUIT {
				time.AfterFunc(graceAfterSignal, cancel)
			}
			select {
			case passed <- s:
			default:
				cancel()
			}
		}
	}()
	return ctx, passed, func() {
		signal.Stop(caught)
		close(caught)
		cancel()
	}
}
