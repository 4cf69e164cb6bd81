package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/microvm/microvm/tests/lab/guest"
	"github.com/microvm/microvm/tests/lab/wire"
	"golang.org/x/sys/unix"
)

// ErrMachine says that the lab's machine failed, not the command in it.
var ErrMachine = errors.New("lab machine failed")

// Options are a command and the machine to run it in. The zero value of each
// field but Args is usable.
type Options struct {
	// Args are the command's arguments; the program is looked up in the guest.
	Args []string
	// Env is its environment, the caller's if nil. TMPDIR is set to a directory
	// on the scratch disk, LAB to 1.
	Env []string
	// Dir is its working directory, the caller's if empty.
	Dir string
	// Stdin is its standard input; nil is an empty one. As in os/exec, a Read
	// that blocks may outlast Run.
	Stdin io.Reader
	// Stdout and Stderr get its output byte by byte; nil discards it.
	Stdout, Stderr io.Writer
	// Terminal, if not nil, gives it a terminal of that size in place of pipes.
	Terminal *wire.Size
	// Signals are passed on to its process group, Sizes to its terminal.
	Signals <-chan os.Signal
	Sizes   <-chan wire.Size

	// OutputDir is a directory that it sees, writable, at /lab/out.
	OutputDir string
	// Scratch are directories that are to be empty and on a real file system
	// instead of the overlay over the host's root.
	Scratch []string
	// Network joins the machine with the host by an interface, if it is valid: the
	// host has its first address, the machine's eth0 the second.
	Network netip.Prefix
	// MemoryMiB and CPUs are the machine's size: 4096 and 1 if 0.
	//
	// Only with one CPU are guests of the emulated KVM sound. QEMU's VMRUN
	// leaves the vector of an interrupt that it injects behind as a pending
	// exception, and delivers it once more, with interrupts disabled or not,
	// if the CPU has to stop for another one before the guest's next exit. A
	// guest then hangs, panics or ends in a triple fault. CPUs stop for each
	// other when the cache of translated code is full, after some 20 guests.
	MemoryMiB, CPUs int
	// DiskSize is the scratch disk's, in bytes: 16 GiB (sparse) if 0.
	DiskSize int64
	// Init is a statically linked program that calls guest.Main when it is PID
	// 1; this process's own program if empty.
	Init string
	// Console gets the machine's console while it runs, if not nil.
	Console io.Writer
}

func (o *Options) setDefaults() error {
	if len(o.Args) == 0 {
		return errors.New("run in the lab: no command")
	}
	if o.Env == nil {
		o.Env = os.Environ()
	}
	o.Env = append(o.Env[:len(o.Env):len(o.Env)], "TMPDIR="+guest.TemporaryDir, "LAB=1")
	if o.Init == "" {
		o.Init = "/proc/self/exe"
	}
	o.MemoryMiB = orDefault(o.MemoryMiB, 4096)
	o.CPUs = orDefault(o.CPUs, 1)
	o.DiskSize = orDefault(o.DiskSize, 16<<30)
	if o.Network.IsValid() {
		if err := checkNetwork(o.Network); err != nil {
			return err
		}
	}
	return o.setDirectories()
}

func (o *Options) setDirectories() (err error) {
	if o.Dir == "" {
		if o.Dir, err = os.Getwd(); err != nil {
			return err
		}
	}
	if o.OutputDir == "" {
		return nil
	}
	o.Env = append(o.Env, guest.OutputVariable+"="+guest.OutputDir)
	if o.OutputDir, err = filepath.Abs(o.OutputDir); err != nil {
		return err
	}
	return os.MkdirAll(o.OutputDir, 0o755)
}

func orDefault[T int | int64](value, fallback T) T {
	if value == 0 {
		return fallback
	}
	return value
}

// Run boots a machine, runs the command in it and returns its exit code. The
// error, which wraps ErrMachine and holds the console's end, is about the
// machine only. When ctx ends, so does the machine.
func Run(ctx context.Context, options Options) (int, error) {
	if err := options.setDefaults(); err != nil {
		return 0, err
	}
	kernel, err := FindKernel()
	if err != nil {
		return 0, err
	}
	m, err := bootMachine(&options, kernel)
	if err != nil {
		return 0, err
	}
	defer m.close()
	stop := context.AfterFunc(ctx, func() { m.qemu.cmd.Process.Kill() })
	defer stop()
	code, err := m.runCommand(&options, kernel)
	if ctx.Err() != nil {
		return 0, fmt.Errorf("%w: %w", ErrMachine, ctx.Err())
	}
	if err != nil {
		return 0, fmt.Errorf("%w: %w\n--- end of its console:\n%s", ErrMachine, err, m.console)
	}
	return code, nil
}

func (m *machine) runCommand(options *Options, kernel Kernel) (int, error) {
	start := wire.Start{
		Args: options.Args, Env: options.Env, Dir: options.Dir, Terminal: options.Terminal,
		Modules: kernel.Modules, Output: options.OutputDir != "", Scratch: options.Scratch,
	}
	if options.Network.IsValid() {
		start.Address = machineAddress(options.Network)
	}
	if err := wire.WriteJSON(m.control, wire.KindStart, start); err != nil {
		return 0, err
	}
	go m.sendInput(options.Stdin)
	ended := make(chan struct{})
	forwarder := make(chan struct{})
	go func() {
		defer close(forwarder)
		m.forward(options, ended)
	}()
	code, err := m.receive(options)
	close(ended)
	<-forwarder
	return code, err
}

// sendInput copies the command's input until it ends or the machine does.
func (m *machine) sendInput(stdin io.Reader) {
	buffer := make([]byte, 64<<10)
	for stdin != nil {
		n, err := stdin.Read(buffer)
		if n > 0 && wire.Write(m.input, wire.KindStdin, buffer[:n]) != nil {
			return
		}
		if err != nil {
			break
		}
	}
	// An error says that the machine is gone, which receive reports.
	_ = wire.Write(m.input, wire.KindStdin, nil)
}

// pulse is how often the machine is woken. QEMU's VMRUN changes the mask of
// pending interrupts without its lock, and so may lose one that a device raises
// at the same moment: a processor that is about to wait for its timer then waits
// for ever. Any later interrupt has it look again.
const pulse = 200 * time.Millisecond

// forward passes signals and sizes on, and wakes the machine now and then,
// until ended is closed.
func (m *machine) forward(options *Options, ended <-chan struct{}) {
	ticker := time.NewTicker(pulse)
	defer ticker.Stop()
	for {
		var err error
		select {
		case <-ticker.C:
			err = wire.Write(m.control, wire.KindPulse, nil)
		case signal := <-options.Signals:
			if number, ok := signal.(unix.Signal); ok {
				err = wire.WriteJSON(m.control, wire.KindSignal, number)
			}
		case size := <-options.Sizes:
			err = wire.WriteJSON(m.control, wire.KindResize, size)
		case <-ended:
			return
		}
		if err != nil {
			return
		}
	}
}

// receive hands out the command's output until its exit code comes.
func (m *machine) receive(options *Options) (int, error) {
	outputs := map[wire.Kind]io.Writer{
		wire.KindStdout: orDiscard(options.Stdout),
		wire.KindStderr: orDiscard(options.Stderr),
	}
	for {
		kind, payload, err := wire.Read(m.control)
		switch {
		case err != nil:
			return 0, fmt.Errorf("machine ended without an exit code: %w", m.endCause(err))
		case kind == wire.KindFailure:
			return 0, errors.New(string(payload))
		case kind == wire.KindExit:
			var code int
			err := json.Unmarshal(payload, &code)
			return code, err
		case outputs[kind] != nil:
			if _, err := outputs[kind].Write(payload); err != nil {
				return 0, fmt.Errorf("write output: %w", err)
			}
		}
	}
}

// endCause prefers QEMU's end to the broken connection that came of it.
func (m *machine) endCause(err error) error {
	select {
	case <-m.qemu.done:
		if m.qemu.err != nil {
			return m.qemu.err
		}
	case <-time.After(time.Second):
	}
	return err
}

func orDiscard(w io.Writer) io.Writer {
	if w == nil {
		return io.Discard
	}
	return w
}
