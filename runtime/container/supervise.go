package container

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/agent/api"
	"github.com/microvm/microvm/runtime/anchor"
	"github.com/microvm/microvm/runtime/cgroup"
	"github.com/microvm/microvm/runtime/sandbox"
	"github.com/microvm/microvm/runtime/state"
)

// supervisor is the life of a container's monitor.
type supervisor struct {
	engine     *Engine
	request    CreateRequest
	foreground bool // streams and terminal are this process's
	timeline   *sandbox.Timeline

	design  *design
	state   state.State    // as it was registered
	cgroup  *cgroup.Cgroup // nil without one
	vm      *sandbox.VM    // nil in the machine of another container
	machine machine        // the one or the other
	process *process
	signals *forwarder
	net     *Network // nil in the host's network namespace
	starved bool     // out of memory at its end, which tellOOM has to tell
	undo    cleanup  // what exists of the container
}

// run brings the container up, calls report, and waits for its end. Nothing is
// left of a container that did not come up.
func (s *supervisor) run(ctx context.Context, report func() error) (code int, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.signals = newForwarder(cancel)
	defer s.undo.run()
	if err := s.bringUp(ctx, report); err != nil {
		var sig signalError
		if errors.As(context.Cause(ctx), &sig) {
			return 128 + int(sig.sig), sig
		}
		return -1, err
	}
	s.signals.attach(s.process)
	code, err = s.process.wait(context.Background())
	return code, s.takeDown(code, err)
}

// bringUp makes everything up to the process that waits, or runs.
func (s *supervisor) bringUp(ctx context.Context, report func() error) (err error) {
	if s.design, err = s.engine.design(s.request.ID, s.request.Bundle); err != nil {
		return err
	}
	s.engine.log(s.request.ID).Debugf("machine %s: %s", s.design.decision.Machine, s.design.decision.Reason)
	if err := checkIO(s.design.bundle.Spec.Process.Terminal, !s.foreground, s.request.ConsoleSocket); err != nil {
		return err
	}
	steps := append([]step{s.findCgroup, s.register, s.joinCgroup}, s.enterMachine()...)
	steps = append(steps, s.create, s.show, s.limitCPU)
	if s.request.Start && !s.foreground {
		steps = append(steps, s.start)
	}
	steps = append(steps, func(context.Context) error { return report() })
	if s.request.Start && s.foreground {
		steps = append(steps, s.start)
	}
	for _, do := range steps {
		if err := do(ctx); err != nil {
			return err
		}
	}
	return nil
}

// step is one of those that bring a container up.
type step = func(context.Context) error

// enterMachine is how the container gets its machine.
func (s *supervisor) enterMachine() []step {
	if s.design.joined != nil {
		return []step{s.enterNetwork, s.runCreateHooks, s.moveIn}
	}
	return []step{s.network, s.launch, s.runCreateHooks, s.boot, s.connect, s.welcome}
}

// register makes the state directory.
func (s *supervisor) register(context.Context) error {
	self, err := state.NewProcess(os.Getpid())
	if err != nil {
		return err
	}
	b := s.design.bundle
	s.state = state.State{
		OCIVersion: specs.Version, ID: s.request.ID, Bundle: b.Dir, Rootfs: b.Rootfs(), Annotations: b.Spec.Annotations,
		Created: time.Now().UTC(), Status: specs.StateCreating, Monitor: self, Machine: s.design.machine.Machine,
		Hooks: b.Spec.Hooks, Memory: s.design.machine.Memory,
	}
	if joined := s.design.joined; joined != nil {
		s.state.In, s.state.Memory = cmp.Or(joined.In, joined.ID), 0
	}
	if s.cgroup != nil {
		record := s.cgroup.Record()
		s.state.Cgroup = &record
	}
	store := s.engine.Store
	store.Replacing = s.engine.dropStale
	d, err := store.Create(&s.state)
	if err != nil {
		return err
	}
	s.undo.add(func() {
		if err := s.engine.remove(s.request.ID); err != nil {
			s.engine.log(s.request.ID).WithError(err).Warn("state could not be removed")
		}
	})
	return d.Close()
}

// show lets the host see the container's root file system in the main thread's
// mount namespace. All mount points exist.
func (s *supervisor) show(context.Context) error {
	root := s.design.plan.Exports[0]
	return unprivileged(anchor.Do(func() error {
		return anchor.EnterRoot(anchor.Mount{Source: root.Path, ReadOnly: root.ReadOnly}, s.design.bundle.Shown())
	}))
}

// unprivileged forgives a user without rights over namespaces: what looks into
// those of the user's processes has no more of them.
func unprivileged(err error) error {
	if os.Geteuid() != 0 && errors.Is(err, unix.EPERM) {
		return nil
	}
	return err
}

// launch starts the VM process.
func (s *supervisor) launch(context.Context) (err error) {
	if err := s.design.prepareRoot(); err != nil {
		return err
	}
	s.design.machine.Timeline = s.timeline
	err = anchor.Do(func() (err error) {
		s.vm, err = sandbox.Launch(s.design.machine)
		return err
	})
	if err != nil {
		return err
	}
	s.machine = ownMachine{s.vm}
	s.undo.add(func() { s.vm.Close() })
	vm, err := state.NewProcess(s.vm.PID())
	if err != nil {
		return s.vm.End() // it died at once
	}
	return s.engine.update(s.request.ID, func(st *state.State) { st.VM = vm })
}

func (s *supervisor) boot(ctx context.Context) error { return s.blameHost(s.vm.Boot(ctx)) }

// create makes the container in the guest, with its streams flowing.
func (s *supervisor) create(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, workGrace)
	defer cancel()
	p := s.design.bundle.Spec.Process
	io, err := openStreams(ctx, s.machine.Socket(), ioRequest{p.Terminal, p.ConsoleSize, s.request.ConsoleSocket})
	if err != nil {
		return err
	}
	s.undo.add(io.Close)
	options, err := api.NewContainerOptions(s.design.plan.Guest)
	if err != nil {
		return err
	}
	s.process = &process{agent: s.machine.Agent(), id: s.request.ID, io: io, log: s.engine.log(s.request.ID)}
	_, err = s.process.agent.Task.Create(ctx, &api.CreateTaskRequest{
		Id: s.request.ID, Bundle: s.design.bundle.Dir, Terminal: p.Terminal, Stdin: io.stdin, Stdout: io.stdout, Stderr: io.stderr, Options: options,
	})
	s.process.passWarnings(ctx)
	if err != nil {
		return s.explain(err)
	}
	if err := io.flow(s.foreground); err != nil {
		return err
	}
	s.timeline.Mark(sandbox.StageCreated)
	return s.engine.update(s.request.ID, func(st *state.State) { st.Status = specs.StateCreated })
}

// start lets the process run.
func (s *supervisor) start(ctx context.Context) error {
	err := s.engine.update(s.request.ID, func(st *state.State) { st.Status = specs.StateRunning })
	if err != nil {
		return err
	}
	call, cancel := context.WithTimeout(ctx, workGrace)
	defer cancel()
	if _, err := s.process.agent.Task.Start(call, &api.StartRequest{Id: s.request.ID}); err != nil {
		return s.explain(err)
	}
	s.timeline.Mark(sandbox.StageStarted)
	return runPoststart(ctx, &s.state)
}

// explain finds the cause of a call's failure: often the machine's end.
func (s *supervisor) explain(err error) error {
	select {
	case <-s.machine.Done():
		return s.blameHost(s.machine.End())
	case <-time.After(lostGrace(err)):
		return agentError(err)
	}
}

// lostGrace is how long the machine's end may come after a failed call.
func lostGrace(err error) time.Duration {
	if isLost(err) {
		return 5 * time.Second
	}
	return 0
}

// takeDown ends everything after the process, whose exit code it keeps. lost is
// the error of its wait.
func (s *supervisor) takeDown(code int, lost error) error {
	s.timeline.Mark(sandbox.StageExit)
	log := s.engine.log(s.request.ID)
	s.noteOOM(code)
	if err := s.process.io.drain(); err != nil {
		log.WithError(err).Debug("output is incomplete")
	}
	s.process.io.Close()
	s.net.Close()
	// The start of a process that ended at once may still wait for its answer.
	s.engine.settle(s.request.ID)
	var err error
	if lost != nil {
		err = fmt.Errorf("container lost: %w", s.explain(lost))
		s.machine.Kill()
	} else if serr := s.machine.Shutdown(context.Background()); serr != nil {
		log.WithError(serr).Error("the guest may not have written everything back")
	}
	s.timeline.Mark(sandbox.StageDown)
	s.tellOOM()
	s.report()
	if s.foreground && !s.request.Keep {
		return err // undo removes the state
	}
	s.undo = nil
	uerr := s.engine.update(s.request.ID, func(st *state.State) { st.Status, st.ExitCode = specs.StateStopped, code })
	if uerr != nil && !errors.Is(uerr, state.ErrNotExist) {
		log.WithError(uerr).Warn("the end was not recorded")
	}
	return err
}
