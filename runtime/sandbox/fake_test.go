package sandbox

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/ttrpc"
	"github.com/sirupsen/logrus"

	"github.com/microvm/microvm/agent/api"
	"github.com/microvm/microvm/vmm/control"
)

// The test binary is also the VM process: a stand-in with no guest behind it,
// which behaves as fakeVariable says.
const fakeVariable = "MICROVM_TEST_FAKE"

func TestMain(m *testing.M) {
	if mode := os.Getenv(fakeVariable); mode != "" {
		fakeVM(mode)
	}
	os.Exit(m.Run())
}

// fakeMachine is the agent's machine service, as much of it as is called.
type fakeMachine struct {
	api.MachineService
	owner  *control.Conn
	stages []*api.Stage
}

func (f fakeMachine) Hello(_ context.Context, r *api.HelloRequest) (*api.HelloResponse, error) {
	if (len(r.GetEntropy()) == 0) == (r.GetUnixNanos() == 0) {
		return nil, fmt.Errorf("want entropy in the greeting and the clock later")
	}
	return &api.HelloResponse{
		Version: api.Version, BoottimeNanos: int64(2 * time.Second),
		Stages: append(f.stages, &api.Stage{Name: api.StageInit, BoottimeNanos: int64(time.Second)}),
	}, nil
}

func (f fakeMachine) Shutdown(context.Context, *api.ShutdownRequest) (*api.ShutdownResponse, error) {
	end(f.owner, control.Event{Reason: control.ReasonPowerOff})
	return nil, nil
}

// ugly is long, and not to be shown.
var ugly = "\x1b[2J\a" + strings.Repeat("x", 10<<10)

func end(owner *control.Conn, e control.Event) {
	e.Type = control.EventExit
	if err := owner.Send(e); err != nil {
		panic(err)
	}
	os.Exit(0)
}

func fakeVM(mode string) {
	c, err := control.ReadConfig(os.NewFile(3, "config"))
	check(err)
	owner, err := control.Open(os.NewFile(uintptr(c.Control), "control"))
	check(err)
	check(owner.Send(control.Event{Type: control.EventStage, Stage: control.StageRun, Time: Now()}))
	log := os.NewFile(uintptr(c.Log), "log")
	switch mode {
	case "panic":
		end(owner, control.Event{Reason: control.ReasonPanic, Console: "line one\r\nKernel panic - not syncing: test\r\n"})
	case "error":
		end(owner, control.Event{Reason: control.ReasonError, Error: "load kernel: not an ELF file"})
	case "crash":
		panic("the VM process has a bug")
	case "filtered":
		breakJail()
	case "vanish":
		os.Exit(7)
	case "fallen":
		for range 1000 {
			check(owner.Send(control.Event{Type: control.EventStage, Stage: ugly}))
			check(owner.Send(control.Event{Type: control.EventStage, Stage: control.StageRun}))
		}
	case "chatty":
		fmt.Fprintln(log, `{"level":"info","msg":"just so","component":"vmm","time":"x"}`)
		fmt.Fprintln(log, `{"level":"error","msg":"bad thing","component":"vmm"}`)
	}
	go serveHost(c)
	go serveAgent(c, owner, mode)
	serveOwner(owner, mode)
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// serveAgent is the guest: it answers on the ready channel, or keeps silent.
func serveAgent(c *control.Config, owner *control.Conn, mode string) {
	if mode == "silent" {
		return
	}
	ready := os.NewFile(uintptr(c.Vsock.Outbound[api.PortAgent]), "ready")
	conn, err := net.FileConn(ready)
	check(err)
	ready.Close()
	if mode == "hangup" {
		conn.Close()
		return
	}
	srv, err := ttrpc.NewServer()
	check(err)
	machine := fakeMachine{owner: owner}
	if mode == "fallen" {
		machine.stages = slices.Repeat([]*api.Stage{{Name: ugly}}, 300)
	}
	api.RegisterMachineService(srv, machine)
	check(srv.Serve(context.Background(), &single{conn: conn}))
}

// single is a listener with one connection.
type single struct {
	net.Listener
	conn net.Conn
}

func (s *single) Accept() (net.Conn, error) {
	if s.conn == nil {
		select {}
	}
	c := s.conn
	s.conn = nil
	return c, nil
}

func (s *single) Close() error   { return nil }
func (s *single) Addr() net.Addr { return &net.UnixAddr{} }

// serveHost echoes on port 7 and refuses others.
func serveHost(c *control.Config) {
	l, err := net.FileListener(os.NewFile(uintptr(c.Vsock.Listener), "vsock"))
	check(err)
	for {
		conn, err := l.Accept()
		check(err)
		go func() {
			defer conn.Close()
			r := bufio.NewReader(conn)
			line, _ := r.ReadString('\n')
			switch strings.TrimSpace(line) {
			case "CONNECT 7":
				fmt.Fprint(conn, "OK 7\n")
				_, _ = io.Copy(conn, r)
			case "CONNECT 8":
				fmt.Fprint(conn, "ERR no room\n")
			case "CONNECT 9":
				_, _ = io.Copy(io.Discard, conn) // never answers
			}
		}()
	}
}

// serveOwner answers requests until the owner is gone.
func serveOwner(owner *control.Conn, mode string) {
	said := ""
	if mode == "fallen" {
		said = ugly
	}
	for {
		var r control.Request
		if _, err := owner.Receive(&r); err != nil {
			os.Exit(0)
		}
		check(owner.Send(control.Event{Type: control.EventReply, Seq: r.Seq, Error: said, Console: "booting...\n"}))
	}
}

// fake starts a stand-in and returns what was logged too.
func fake(t *testing.T, mode string) (*VM, *strings.Builder) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	vmm := filepath.Join(dir, "vmm")
	// The machine's process has a clean environment.
	script := fmt.Sprintf("#!/bin/sh\n%s=%s exec %s \"$@\"\n", fakeVariable, mode, self)
	if err := os.WriteFile(vmm, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	logged := new(strings.Builder)
	log := logrus.New()
	log.SetOutput(logged)
	vm, err := Launch(Config{
		ID: "test", Machine: control.MachineSoftware, CPUs: 1, Memory: 1 << 20, Kernel: self, Initramfs: self, VMM: vmm,
		Exports: []Export{{Name: "rootfs", Path: dir}}, Socket: filepath.Join(dir, "vsock.sock"),
		Log: logrus.NewEntry(log), Timeline: NewTimeline(Now()),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { vm.Close() })
	return vm, logged
}

func (fakeMachine) Network(context.Context, *api.NetworkRequest) (*api.NetworkResponse, error) {
	return &api.NetworkResponse{}, nil
}
