package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/vmm"
	"github.com/microvm/microvm/vmm/control"
)

// lingering is how long a machine may take to stop.
const lingering = 2 * time.Second

// owner is the other end of the control socket.
type owner struct {
	conn *control.Conn
}

// service is what requests work on.
type service struct {
	devices *devices
	console *vmm.Console
	stop    func()
}

func openOwner(c *control.Config) (*owner, error) {
	f, err := openFile(c.Control, "control socket")
	if err != nil {
		return nil, err
	}
	conn, err := control.Open(f)
	if err != nil {
		return nil, err
	}
	return &owner{conn: conn}, nil
}

// stage tells that the start-up has reached a stage.
func (o *owner) stage(name string) {
	o.send(control.Event{Type: control.EventStage, Stage: name, Time: now()})
}

// now is CLOCK_MONOTONIC in nanoseconds.
func now() int64 {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) != nil {
		return 0
	}
	return t.Nano()
}

// report is the last message: how the machine ended.
func (o *owner) report(e vmm.Exit, console *vmm.Console) {
	event := control.Event{Type: control.EventExit, Time: now(), Reason: e.Reason, Console: console.LastWords()}
	if e.Err != nil {
		event.Error = e.Err.Error()
	}
	o.send(event)
}

// send ignores errors: an owner that does not listen is about to be gone.
func (o *owner) send(e control.Event) { _ = o.conn.Send(e) }

// serve answers requests until the owner hangs up, which stops the machine. It
// goes on until the process ends.
func (o *owner) serve(s service) {
	for {
		var r control.Request
		files, err := o.conn.Receive(&r)
		if err != nil {
			o.lost(s, err)
			return
		}
		o.send(s.answer(r, files))
	}
}

// lost ends the machine, and the process with it, if need be by force.
func (o *owner) lost(s service, err error) {
	if !errors.Is(err, io.EOF) {
		fmt.Fprintln(os.Stderr, "microvm-vmm: owner lost:", err)
	}
	s.stop()
	time.AfterFunc(2*lingering, func() { os.Exit(exitFault) })
}

// answer carries one request out; the files that came with it are closed.
func (s service) answer(r control.Request, files []*os.File) control.Event {
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	e := control.Event{Type: control.EventReply, Seq: r.Seq}
	var err error
	switch r.Op {
	case control.OpAddExport:
		err = s.addExport(r.Export, files)
	case control.OpRemoveExport:
		err = s.removeExport(r.Export)
	case control.OpAddDisk:
		err = s.addDisk(r.Disk, files)
	case control.OpRemoveDisk:
		err = s.removeDisk(r.Disk)
	case control.OpAttachNIC:
		err = s.attachNIC(r.NIC, r.Froms, files)
	case control.OpDetachNIC:
		err = s.detachNIC(r.NIC)
	case control.OpConsole:
		e.Console = s.console.LastWords()
	case control.OpStop:
		s.stop()
	default:
		err = fmt.Errorf("unknown operation %q", r.Op)
	}
	if err != nil {
		e.Error = err.Error()
	}
	return e
}

func (s service) addExport(e *control.Export, files []*os.File) error {
	if e == nil || len(files) != 1 {
		return fmt.Errorf("add export: %d descriptors came along, want a name and 1", len(files))
	}
	return s.devices.addExport(*e, files[0])
}

func (s service) removeExport(e *control.Export) error {
	if e == nil {
		return errors.New("remove export: no name")
	}
	return s.devices.files.RemoveExport(e.Name)
}
