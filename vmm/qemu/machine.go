package qemu

import (
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/vmm/virtio"
	"github.com/microvm/microvm/vmm/virtio/vhostuser"
)

// pipeSize is what an unprivileged user may ask for, in bytes.
const pipeSize = 1 << 20

// Machine is a running QEMU with our devices.
type Machine struct {
	log     *logrus.Entry
	ends    []*os.File    // our ends of sockets and pipes
	spawned chan struct{} // closed when process is set, or never will be

	monitor monitor
	qmp     *os.File // our end of the monitor's socket
	stderr  stderr
	resets  resetLog
	console Console

	workers sync.WaitGroup
	stopped atomic.Bool

	mu        sync.Mutex
	servers   []*vhostuser.Server
	listeners []*listener
	process   *process // set once, by start
	cause     error    // why a device made us stop QEMU
}

// Start starts a machine. It returns when QEMU was started; the guest waits for
// Resume. What goes wrong later is an outcome of Wait, which the caller calls in
// any case.
func Start(cfg Config) (*Machine, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	path, err := find(cfg.Path)
	if err != nil {
		return nil, err
	}
	m := &Machine{log: cfg.Log, console: cfg.Console, spawned: make(chan struct{}), monitor: monitor{ready: make(chan struct{})}}
	if m.log == nil {
		quiet := logrus.New()
		quiet.Out = io.Discard
		m.log = logrus.NewEntry(quiet)
	}
	if err := m.start(path, &cfg); err != nil {
		m.release()
		m.workers.Wait()
		return nil, fmt.Errorf("start software machine: %w", err)
	}
	return m, nil
}

// start lays out the command line and its descriptors, and runs it.
func (m *Machine) start(path string, cfg *Config) error {
	var c command
	defer func() {
		close(m.spawned)
		for _, f := range c.files {
			if f != cfg.Kernel && f != cfg.Initramfs {
				f.Close() // the child's end
			}
		}
	}()
	c.machine(cfg)
	if err := c.boot(cfg); err != nil {
		return err
	}
	for i, d := range cfg.Devices {
		if err := m.attach(&c, i, d); err != nil {
			return err
		}
	}
	console, err := m.pipe(c.console)
	if err != nil {
		return err
	}
	if m.qmp, err = m.socket(c.monitor); err != nil {
		return err
	}
	resets, err := m.pipe(c.resetLog)
	if err != nil {
		return err
	}
	if err := m.spawn(path, &c); err != nil {
		return err
	}
	m.workers.Go(func() { _, _ = io.CopyBuffer(infallible{m.console}, console, make([]byte, 4<<10)) })
	m.workers.Go(func() { _, _ = io.Copy(&m.resets, resets) })
	m.workers.Go(func() {
		if err := m.monitor.run(m.qmp); err != nil {
			m.log.WithError(err).Debug("read QEMU's monitor")
		}
	})
	return nil
}

// infallible ignores a writer's errors: who stops to read from QEMU's sockets
// blocks the guest.
type infallible struct{ w io.Writer }

func (i infallible) Write(p []byte) (int, error) {
	_, _ = i.w.Write(p)
	return len(p), nil
}

// spawn runs QEMU. Devices may have failed already when it returns.
func (m *Machine) spawn(path string, c *command) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	p, err := spawn(path, c, &m.stderr)
	m.process = p
	return err
}

// attach makes a server for d and adds its front end to c.
func (m *Machine) attach(c *command, i int, d virtio.Device) error {
	if d.ID() == virtio.DeviceNet {
		return m.attachNet(c, i, d)
	}
	ours, theirs, err := socketpair()
	if err != nil {
		return err
	}
	if err := c.device(fmt.Sprintf("device%d", i), d, theirs); err != nil {
		ours.Close()
		theirs.Close()
		return err
	}
	s, err := m.server(ours, d)
	if err != nil {
		return err
	}
	m.workers.Go(func() {
		if err := serve(s, d); err != nil {
			m.fail(err)
		}
	})
	return nil
}

// server makes the server of d on f, which it takes over.
func (m *Machine) server(f *os.File, d virtio.Device) (*vhostuser.Server, error) {
	log := m.log.WithField("device", fmt.Sprint(d.ID()))
	s, err := vhostuser.New(f, d, vhostuser.Options{
		Fail: func(err error) { log.WithError(err).Warn("device stopped") },
		// QEMU has those of the others itself.
		NoConfig: d.ID() != virtio.DeviceVsock && d.ID() != virtio.DeviceBlock,
		Partial:  d.ID() == virtio.DeviceNet,
	})
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.servers = append(m.servers, s)
	return s, nil
}

func serve(s *vhostuser.Server, d virtio.Device) error {
	if err := s.Serve(); err != nil {
		return fmt.Errorf("serve device %d over vhost-user: %w", d.ID(), err)
	}
	return nil
}

// fail ends the machine because of err.
func (m *Machine) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cause == nil {
		m.cause = err
	}
	if m.process != nil {
		m.process.kill()
	}
}

// socket makes a socketpair, gives one end to add and returns the other.
func (m *Machine) socket(add func(*os.File)) (*os.File, error) {
	ours, theirs, err := socketpair()
	if err != nil {
		return nil, err
	}
	add(theirs)
	m.ends = append(m.ends, ours)
	return ours, nil
}

// socketpair makes a connected pair. The first end is for Go's poller, the
// second blocks.
func socketpair() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("create socketpair: %w", err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		unix.Close(fds[0])
		unix.Close(fds[1])
		return nil, nil, fmt.Errorf("set socket non-blocking: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "socket"), os.NewFile(uintptr(fds[1]), "socket"), nil
}

// pipe makes a pipe, gives the end to write to add and returns the other.
func (m *Machine) pipe(add func(*os.File)) (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("create pipe: %w", err)
	}
	// Best effort: what is lost when it is smaller is console output only.
	_, _ = unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, pipeSize)
	if err := give(w); err != nil {
		r.Close()
		w.Close()
		return nil, err
	}
	add(w)
	m.ends = append(m.ends, r)
	return r, nil
}

// Settle returns when QEMU has opened all the files that it needs, or is over.
func (m *Machine) Settle() { <-m.monitor.ready }

// Resume has the guest run, once. A QEMU that is over does not care.
func (m *Machine) Resume() {
	if err := m.monitor.resume(m.qmp); err != nil {
		m.log.WithError(err).Debug("resume QEMU")
	}
}

// Stop makes Wait return soon, with control.ReasonStopped if nothing else came
// first. It may be called from any goroutine and more than once.
func (m *Machine) Stop() {
	m.stopped.Store(true)
	m.process.kill()
}

// PID is QEMU's process id, for logs and measurements.
func (m *Machine) PID() int { return m.process.cmd.Process.Pid }

// Wait returns when QEMU is gone, the devices are reset and every descriptor
// is closed. It says why the machine ended, as a reason of package control;
// with control.ReasonError, err has the cause. It must be called once.
func (m *Machine) Wait() (reason string, err error) {
	state := m.process.wait()
	m.closeListeners()
	// QEMU's ends are closed: what it said is read to the end.
	m.workers.Wait()
	m.release()
	greeted, shutdown := m.monitor.state()
	e := ending{
		state: state, stopped: m.stopped.Load(), cause: m.cause,
		greeted: greeted, shutdown: shutdown,
		panicked: m.console.Panicked(), tripleFault: m.resets.fault,
		stderr: m.stderr.String(),
	}
	return e.reason()
}

func (m *Machine) closeListeners() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.listeners {
		l.Close()
	}
}

// release closes our ends.
func (m *Machine) release() {
	m.closeListeners()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.servers {
		s.Close()
	}
	for _, f := range m.ends {
		f.Close()
	}
}
