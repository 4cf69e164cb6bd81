package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/vmm/boot/boottest"
	"github.com/microvm/microvm/vmm/control"
	"github.com/microvm/microvm/vmm/kvm/kvmtest"
)

// process is a VM process and its owner.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	owner  *control.Conn
	host   *os.File // the host's end of vsock port 1024
	files  []*os.File
	log    strings.Builder
	config control.Config
}

// newProcess prepares a VM process whose descriptors are in the configuration.
func newProcess(t *testing.T, machine string) *process {
	t.Helper()
	p := &process{t: t}
	p.config = control.Config{ID: t.Name(), Machine: machine, CPUs: 2, Memory: 256 << 20}
	owner, theirs, err := control.Pair()
	if err != nil {
		t.Fatal(err)
	}
	p.owner = owner
	t.Cleanup(func() { owner.Close() })
	p.config.Control = p.hand(theirs)
	return p
}

// hand gives f to the process, and returns its number there; 3 is the
// configuration.
func (p *process) hand(f *os.File) int {
	p.files = append(p.files, f)
	return 3 + len(p.files)
}

func (p *process) open(path string, flags int) int {
	p.t.Helper()
	f, err := os.OpenFile(path, flags, 0)
	if err != nil {
		p.t.Fatal(err)
	}
	return p.hand(f)
}

// start starts the process. It is killed at the end of the test.
func (p *process) start() {
	p.t.Helper()
	configR, configW, err := os.Pipe()
	if err != nil {
		p.t.Fatal(err)
	}
	p.cmd = exec.Command(program(p.t), "--config-fd", "3")
	p.cmd.Env = append(os.Environ(), vmmVariable+"=1")
	p.cmd.ExtraFiles = append([]*os.File{configR}, p.files...)
	p.cmd.Stderr = &p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: control.Namespaces | control.EmptyNetwork}
	// What the test was started with is not handed on.
	if err := unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		p.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	for _, f := range p.cmd.ExtraFiles {
		f.Close()
	}
	p.t.Cleanup(func() { p.cmd.Process.Kill(); p.cmd.Wait() })
	if err := json.NewEncoder(configW).Encode(p.config); err != nil {
		p.t.Fatal(err)
	}
	configW.Close()
}

// event is the next message.
func (p *process) event() control.Event {
	p.t.Helper()
	var e control.Event
	if _, err := p.owner.Receive(&e); err != nil {
		p.t.Fatalf("%v; log:\n%s", err, p.log.String())
	}
	return e
}

// ends reads on to the exit event, and waits for the process.
func (p *process) ends(reason string) control.Event {
	p.t.Helper()
	for {
		e := p.event()
		if e.Type != control.EventExit {
			continue
		}
		if e.Reason != reason {
			p.t.Errorf("ended with %q (%s), want %q; console:\n%s", e.Reason, e.Error, reason, e.Console)
		}
		p.wait()
		return e
	}
}

// wait waits for the process to be gone.
func (p *process) wait() {
	p.t.Helper()
	gone := make(chan struct{})
	go func() { p.cmd.Wait(); close(gone) }()
	select {
	case <-gone:
	case <-time.After(20 * time.Second):
		p.t.Fatal("process did not end")
	}
}

// request sends r and returns its reply.
func (p *process) request(r control.Request, files ...*os.File) control.Event {
	p.t.Helper()
	r.Seq = uint64(time.Now().UnixNano())
	if err := p.owner.Send(r, files...); err != nil {
		p.t.Fatal(err)
	}
	for {
		if e := p.event(); e.Type == control.EventReply && e.Seq == r.Seq {
			return e
		}
	}
}

// boot prepares a guest with this test binary as its init.
func boot(t *testing.T, machine string) *process {
	t.Helper()
	kernel := boottest.Kernel(t)
	p := newProcess(t, machine)
	switch machine {
	case control.MachineKVM:
		kvmtest.RequireHardware(t)
		p.config.KVM = p.open("/dev/kvm", os.O_RDWR)
	case control.MachineSoftware:
		if os.Getenv(kvmtest.Environment) == "required" {
			t.Skip("this run is for KVM")
		}
		path, err := exec.LookPath("qemu-system-x86_64")
		if err != nil {
			t.Skipf("needs QEMU: %v", err)
		}
		p.config.QEMU = path
	}
	p.config.Kernel = p.open(kernel.Name(), os.O_RDONLY)
	p.config.Initramfs = p.open(boottest.Initramfs(t).Name(), os.O_RDONLY)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	p.host = os.NewFile(uintptr(pair[0]), "host")
	t.Cleanup(func() { p.host.Close() })
	p.config.Vsock = control.Vsock{GuestCID: 3, Outbound: map[uint32]int{1024: p.hand(os.NewFile(uintptr(pair[1]), "guest"))}}
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/hello", []byte("from the host"), 0o644); err != nil {
		t.Fatal(err)
	}
	p.config.Exports = []control.Export{{Name: "first", FD: p.open(dir, unix.O_PATH|unix.O_DIRECTORY), ReadOnly: true}}
	return p
}

// ask sends a line to the guest and returns its answer.
func (p *process) ask(r *bufio.Reader, line string) string {
	p.t.Helper()
	if line != "" {
		fmt.Fprintln(p.host, line)
	}
	answer, err := r.ReadString('\n')
	if err != nil {
		p.t.Fatalf("%v; log:\n%s", err, p.log.String())
	}
	return strings.TrimSuffix(answer, "\n")
}

var machines = []string{control.MachineKVM, control.MachineSoftware}

func TestGuestReachesItsHost(t *testing.T) {
	for _, machine := range machines {
		t.Run(machine, func(t *testing.T) {
			p := boot(t, machine)
			start := time.Now()
			p.start()
			guest := bufio.NewReader(p.host)
			if got := p.ask(guest, ""); got != "ready" {
				t.Fatalf("guest said %q", got)
			}
			t.Logf("guest was ready after %v, process: %s", time.Since(start), footprint(p.cmd.Process.Pid))
			for i, want := range []string{control.StageProcess, control.StageRun} {
				if e := p.event(); e.Type != control.EventStage || e.Stage != want || e.Time == 0 {
					t.Errorf("event %d is %+v, want stage %s", i, e, want)
				}
			}
			if got := p.ask(guest, "read first/hello"); got != "from the host <nil>" {
				t.Errorf("guest read %q", got)
			}
			testExports(t, p, guest)
			if e := p.request(control.Request{Op: "dance"}); e.Error == "" {
				t.Error("unknown operation was accepted")
			}
			fmt.Fprintln(p.host, "exit now")
			p.ends(control.ReasonPowerOff)
		})
	}
}

// testExports adds and removes an export while the guest runs.
func testExports(t *testing.T, p *process, guest *bufio.Reader) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "late")
	if err := os.WriteFile(name, []byte("came late"), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	add := control.Request{Op: control.OpAddExport, Export: &control.Export{Name: "second"}}
	if e := p.request(add, f); e.Error != "" {
		t.Fatal(e.Error)
	}
	if got := p.ask(guest, "read second"); got != "came late <nil>" {
		t.Errorf("guest read %q", got)
	}
	if e := p.request(add, f); e.Error == "" {
		t.Error("the same name was exported twice")
	}
	if e := p.request(add); e.Error == "" {
		t.Error("export without a descriptor was accepted")
	}
	remove := control.Request{Op: control.OpRemoveExport, Export: &control.Export{Name: "second"}}
	if e := p.request(remove); e.Error != "" {
		t.Error(e.Error)
	}
	if got := p.ask(guest, "read second"); strings.HasPrefix(got, "came late") {
		t.Errorf("guest read %q from an export that is gone", got)
	}
}

func TestPanicIsReportedWithTheConsole(t *testing.T) {
	for _, machine := range machines {
		t.Run(machine, func(t *testing.T) {
			p := boot(t, machine)
			p.start()
			guest := bufio.NewReader(p.host)
			p.ask(guest, "")
			if e := p.request(control.Request{Op: control.OpConsole}); e.Error != "" {
				t.Error(e.Error)
			}
			fmt.Fprintln(p.host, "panic now")
			e := p.ends(control.ReasonPanic)
			if !strings.Contains(e.Console, "Attempted to kill init") {
				t.Errorf("console lacks the cause:\n%s", e.Console)
			}
		})
	}
}

func TestStop(t *testing.T) {
	for _, machine := range machines {
		t.Run(machine, func(t *testing.T) {
			p := boot(t, machine)
			p.start()
			if e := p.request(control.Request{Op: control.OpStop}); e.Error != "" {
				t.Error(e.Error)
			}
			p.ends(control.ReasonStopped)
		})
	}
}

func TestProcessEndsWithItsOwner(t *testing.T) {
	for _, machine := range machines {
		t.Run(machine, func(t *testing.T) {
			p := boot(t, machine)
			p.start()
			p.ask(bufio.NewReader(p.host), "")
			p.owner.Close()
			p.wait()
		})
	}
}

// What does not get as far as a guest says why.
func TestFaultsAreReported(t *testing.T) {
	for _, test := range []struct {
		name, want string
		change     func(*process)
	}{
		{"unknown machine", "toaster", func(p *process) { p.config.Machine = "toaster" }},
		{"no kvm", "/dev/kvm", func(p *process) {}},
		{"kvm is something else", "kvm is not usable", func(p *process) { p.config.KVM = p.open("/dev/null", os.O_RDWR) }},
		{"descriptor that is not there", "descriptor 99", func(p *process) { p.config.KVM = 99 }},
		{"export that is not there", "export gone", func(p *process) {
			p.config.Exports = []control.Export{{Name: "gone", FD: 98}}
		}},
		{"listener is no socket", "vsock listener", func(p *process) { p.config.Vsock.Listener = p.open("/dev/null", os.O_RDWR) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newProcess(t, control.MachineKVM)
			test.change(p)
			p.start()
			if e := p.ends(control.ReasonError); !strings.Contains(e.Error, test.want) {
				t.Errorf("error %q, want %q in it", e.Error, test.want)
			}
			if code := p.cmd.ProcessState.ExitCode(); code != exitFault {
				t.Errorf("exit code %d, want %d", code, exitFault)
			}
		})
	}
}

func TestBrokenConfiguration(t *testing.T) {
	cmd := exec.Command(program(t), "--config-fd", "3")
	cmd.Env = append(os.Environ(), vmmVariable+"=1")
	f, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd.ExtraFiles = []*os.File{f}
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "configuration") {
		t.Errorf("%v: %s", err, out)
	}
}

// footprint is what a process costs, from /proc.
func footprint(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", pid))
	if err != nil {
		return err.Error()
	}
	var rss, guest, private int
	isGuest := false
	for line := range strings.Lines(string(b)) {
		var kib int
		switch f := strings.Fields(line); {
		case strings.Contains(f[0], "-"):
			isGuest = strings.Contains(line, " rw-s ") && strings.HasSuffix(line, "(deleted)\n") // a memfd or on a tmpfs
		case f[0] == "Rss:":
			fmt.Sscan(f[1], &kib)
			if isGuest {
				guest += kib
			} else {
				rss += kib
			}
		case strings.HasPrefix(f[0], "Private_"):
			if fmt.Sscan(f[1], &kib); !isGuest {
				private += kib
			}
		}
	}
	return fmt.Sprintf("%d KiB private, %d KiB resident, besides %d KiB of guest memory", private, rss, guest)
}
