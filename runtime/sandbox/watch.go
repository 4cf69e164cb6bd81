package sandbox

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/microvm/microvm/agent/api"
	"github.com/microvm/microvm/runtime/isolation"
	"github.com/microvm/microvm/vmm/control"
)

// mostError is how much the process may say about a fault, in bytes.
const mostError = 4096

// logGrace is how long the log may outlive the process: a child of the process
// that is about to end too may still hold the pipe.
const logGrace = time.Second

// watch reads all that the process says until it has ended. It owns vm.end
// until it closes vm.done.
func (vm *VM) watch(logs *os.File) {
	logged := make(chan struct{})
	go func() {
		defer close(logged)
		vm.log.read(logs)
	}()
	said := vm.readEvents()
	err := vm.cmd.Wait()
	// Fails only if the pipe is no pollable file, which it is.
	_ = logs.SetReadDeadline(time.Now().Add(logGrace))
	<-logged
	logs.Close()
	vm.end = vm.conclude(said, err)
	vm.control.Close()
	close(vm.done)
	vm.closeAgent()
}

// readEvents reads to the end of the control connection and returns the exit
// event, nil if there was none. The process may have fallen to its guest: of what it
// says, nothing adds up without end, and a terminal acts on nothing.
func (vm *VM) readEvents() *control.Event {
	var exit *control.Event
	stages := []string{control.StageProcess, control.StageRun} // those that are to come
	for {
		var e control.Event
		files, err := vm.control.Receive(&e)
		if err != nil {
			return exit // the end, or nothing to be understood any more
		}
		for _, f := range files {
			f.Close()
		}
		e.Error = api.Printable(e.Error, mostError)
		switch e.Type {
		case control.EventStage:
			if i := slices.Index(stages, e.Stage); i >= 0 {
				stages = slices.Delete(stages, i, i+1)
				vm.config.Timeline.MarkAt(e.Stage, e.Time)
			}
		case control.EventReply:
			vm.answer(e)
		case control.EventExit:
			exit = &e
		}
	}
}

func (vm *VM) answer(e control.Event) {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	if c, ok := vm.replies[e.Seq]; ok {
		delete(vm.replies, e.Seq)
		c <- e // has room for one
	}
}

// conclude makes the end of what the process said and how it exited.
func (vm *VM) conclude(said *control.Event, exit error) End {
	if said == nil {
		if exit == nil {
			exit = errNoWord
		}
		exit = isolation.ExplainFilter(vm.PID(), exit)
		if last := vm.log.last(); last != "" {
			exit = fmt.Errorf("%w: %s", exit, last)
		}
		return End{Err: exit}
	}
	e := End{Reason: said.Reason, Console: said.Console}
	if said.Error != "" {
		e.Err = errors.New(said.Error)
	}
	return e
}
