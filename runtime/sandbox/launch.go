package sandbox

import (
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"os/exec"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/agent/api"
	"github.com/microvm/microvm/runtime/isolation"
	"github.com/microvm/microvm/vmm/control"
)

// VM is a running machine. Its methods may be called concurrently.
type VM struct {
	config  Config
	cmd     *exec.Cmd
	control *control.Conn
	ready   net.Conn // until Boot gives it to agent
	log     processLog

	// done is closed when the process has ended and all it said was read.
	done chan struct{}
	end  End // valid after done

	mu      sync.Mutex
	agent   *api.Client
	seq     uint64
	replies map[uint64]chan control.Event
}

// Launch starts the machine's process. When it fails nothing is left but the
// socket's file.
func Launch(c Config) (*VM, error) {
	d, err := newDonation(&c)
	if err != nil {
		return nil, fmt.Errorf("launch machine: %w", err)
	}
	defer d.close()
	vm := &VM{config: c, done: make(chan struct{}), replies: map[uint64]chan control.Event{}}
	vm.log.log = c.Log
	logs, err := vm.connect(d)
	if err == nil {
		if err = d.seal(); err == nil {
			err = vm.start(d, logs)
		}
	}
	if err != nil {
		vm.abandon(logs)
		return nil, fmt.Errorf("launch machine: %w", err)
	}
	go vm.watch(logs)
	return vm, nil
}

// connect makes the connections to the process: control, ready channel, vsock
// listener and log. It returns the log's read end.
func (vm *VM) connect(d *donation) (logs *os.File, err error) {
	var theirs *os.File
	if vm.control, theirs, err = control.Pair(); err != nil {
		return nil, err
	}
	d.config.Control = d.add(theirs)
	if vm.ready, theirs, err = streamPair(); err != nil {
		return nil, err
	}
	d.config.Vsock.Outbound = map[uint32]int{api.PortAgent: d.add(theirs)}
	if theirs, err = Listen(vm.config.Socket); err != nil {
		return nil, err
	}
	d.config.Vsock.Listener = d.add(theirs)
	logs, theirs, err = os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("create log pipe: %w", err)
	}
	d.config.Log = d.add(theirs)
	return logs, nil
}

func streamPair() (net.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("create socketpair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "ready"), os.NewFile(uintptr(fds[1]), "ready")
	defer ours.Close()
	c, err := net.FileConn(ours)
	if err != nil {
		theirs.Close()
		return nil, nil, fmt.Errorf("open socketpair: %w", err)
	}
	return c, theirs, nil
}

// start runs the process with what d holds. Its stderr is its log too.
func (vm *VM) start(d *donation, logs *os.File) error {
	vm.cmd = exec.Command(vm.config.VMM, "--config-fd", fmt.Sprint(firstFD))
	vm.cmd.ExtraFiles = d.files
	vm.cmd.Stderr = d.files[d.config.Log-firstFD]
	vm.cmd.Dir = "/"
	vm.cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	// What this process got from its caller without wanting it is not handed on.
	if err := unix.CloseRange(firstFD, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("mark descriptors close-on-exec: %w", err)
	}
	var more uintptr
	if !vm.config.Stand {
		more = control.EmptyNetwork
	}
	if err := isolation.Start(vm.cmd, more); err != nil {
		return fmt.Errorf("start VM process: %w", err)
	}
	return nil
}

func (vm *VM) abandon(logs *os.File) {
	if vm.control != nil {
		vm.control.Close()
	}
	if vm.ready != nil {
		vm.ready.Close()
	}
	if logs != nil {
		logs.Close()
	}
}

// PID is the VM process's.
func (vm *VM) PID() int { return vm.cmd.Process.Pid }

// Done is closed when the machine has ended.
func (vm *VM) Done() <-chan struct{} { return vm.done }

// End waits for the machine's end and tells how it was.
func (vm *VM) End() End {
	<-vm.done
	return vm.end
}

var errNoWord = errors.New("it said nothing")
