package container

import (
	"github.com/sirupsen/logrus"

	"github.com/microvm/microvm/runtime/config"
	"github.com/microvm/microvm/runtime/state"
)

// Engine is the lifecycle. It has no state of its own; its methods may be
// called concurrently, and by any number of processes on the same store.
//
// Run and ServeMonitor are for processes that do nothing else and whose main
// thread serves package anchor.
type Engine struct {
	Store state.Store
	// Config is the administrator's.
	Config config.Config
	// Machine overrules the configuration; empty does not.
	Machine string
	// ExeDir is where the parts of a machine are searched for first.
	ExeDir string
	// SystemdCgroup lets systemd make the host's cgroups.
	SystemdCgroup bool
	// Monitor is the command line of a process that calls ServeMonitor.
	Monitor []string
	// Log is for what is no error of a call.
	Log *logrus.Entry
}

func (e *Engine) log(id string) *logrus.Entry { return e.Log.WithField("container", id) }
