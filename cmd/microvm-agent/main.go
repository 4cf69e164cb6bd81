// Command microvm-agent is PID 1 of a microvm guest and the only file of its
// initramfs. With the argument "init" it is the first stage of a container's
// process instead, and with "pause" the program of a container that has none.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"time"

	"github.com/containerd/ttrpc"
	"github.com/sirupsen/logrus"

	"github.com/microvm/microvm/agent/api"
	"github.com/microvm/microvm/agent/guest"
	"github.com/microvm/microvm/agent/network"
	"github.com/microvm/microvm/agent/process"
	_ "github.com/microvm/microvm/agent/process/reexec"
	"github.com/microvm/microvm/agent/watch"
)

// version is set by the build.
var version = "unknown"

// The main goroutine keeps the main thread, PID 1 itself, whose requests have no
// effect on the share: see package rootfs/changes.
func init() { runtime.LockOSThread() }

func main() {
	started := guest.Boottime()
	if len(os.Args) == 2 && os.Args[1] == api.PauseArgument {
		guest.Pause()
		return
	}
	if os.Getpid() != 1 {
		fmt.Fprintf(os.Stderr, "microvm-agent %s: runs as PID 1 of a microvm guest only\n", version)
		os.Exit(2)
	}
	guest.Fatal(run(started))
}

// run brings the guest up and serves the host. It returns only to say what went
// wrong: the guest's life ends within a call.
func run(started time.Duration) error {
	timeline := new(guest.Timeline)
	timeline.ReachedAt(api.StageInit, started)
	guest.IgnoreSignals()
	if err := errors.Join(guest.MountAll(), guest.RaiseLimits(), guest.LoopbackUp()); err != nil {
		return err
	}
	warnings := guest.ConfigureLog()
	nics, err := network.New(api.NetworkNamespace)
	if err != nil {
		return err
	}
	timeline.Reach(api.StageMounts)

	streams := process.NewStreams()
	engine, err := process.NewEngine(guest.StateDir, streams)
	if err != nil {
		return err
	}
	engine.Network = nics
	tasks := process.Service{Engine: engine}
	server, err := ttrpc.NewServer()
	if err != nil {
		return fmt.Errorf("make server: %w", err)
	}
	api.RegisterTaskService(server, tasks)
	api.RegisterMachineService(server, &guest.Machine{Timeline: timeline, List: tasks.List, SetNetwork: nics.Set, Kills: tasks.Kills, Log: warnings})
	go func() { guest.Fatal(serve(server, streams, nics, timeline)) }()
	logrus.WithError(relay()).Warn("processes that watch files are not told of changes on the host any more")
	select {}
}

// relay tells processes that watch files of changes on the host until that is
// impossible.
func relay() error {
	r, err := watch.New(api.ExportsDir)
	if err != nil {
		return err
	}
	return r.Run()
}

// serve answers on all ports and on the connection that tells the host that the
// guest is ready.
func serve(server *ttrpc.Server, streams *process.Streams, nics *network.Network, timeline *guest.Timeline) error {
	calls, err := guest.Listen(api.PortAgent)
	if err != nil {
		return err
	}
	arrivals, err := guest.Listen(api.PortStream)
	if err != nil {
		return err
	}
	visits, err := guest.Listen(api.PortDial)
	if err != nil {
		return err
	}
	timeline.Reach(api.StageReady)
	ready, err := guest.Dial(api.HostCID, api.PortAgent)
	if err != nil {
		return fmt.Errorf("tell the host that the guest is ready: %w", err)
	}
	failed := make(chan error)
	for _, l := range []net.Listener{guest.OneConn(ready), calls} {
		go func() { failed <- server.Serve(context.Background(), l) }()
	}
	go func() { failed <- streams.Serve(arrivals) }()
	go func() { failed <- nics.Serve(visits) }()
	return <-failed
}
