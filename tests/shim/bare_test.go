package shim

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	bootapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	sandboxapi "github.com/containerd/containerd/api/runtime/sandbox/v1"
	eventsapi "github.com/containerd/containerd/api/services/ttrpc/events/v1"
	"github.com/containerd/containerd/api/types"
	runtimeoptions "github.com/containerd/containerd/api/types/runtimeoptions/v1"
	"github.com/containerd/ttrpc"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/microvm/microvm/agent/api"
	"github.com/microvm/microvm/runtime/bundle"
	"github.com/microvm/microvm/tests/command"
	"github.com/microvm/microvm/tests/inventory"
)

// bare is a shim that is driven as containerd drives it, without one.
type bare struct {
	t       *testing.T
	id, dir string // of its first bundle
	address string
	tasks   api.TaskService
	sandbox sandboxapi.TTRPCSandboxService
	rpc     *ttrpc.Client
	events  *eventSink
}

// eventSink takes a shim's events.
type eventSink struct {
	mu     sync.Mutex
	topics []string
}

// Forward implements the service of that name.
func (k *eventSink) Forward(_ context.Context, r *eventsapi.ForwardRequest) (*emptypb.Empty, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.topics = append(k.topics, r.GetEnvelope().GetTopic())
	return &emptypb.Empty{}, nil
}

func (k *eventSink) String() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return strings.Join(k.topics, " ")
}

// startBare starts the shim of a bundle, which has no configuration yet. input is
// what it finds on standard input.
func startBare(t *testing.T, input func(id, dir string) []byte) *bare {
	t.Helper()
	return startBareIn(t, t.TempDir(), input)
}

// startBareIn does so with the bundle below root.
func startBareIn(t *testing.T, root string, input func(id, dir string) []byte) *bare {
	t.Helper()
	before := inventory.Take(t, t.TempDir())
	b := &bare{t: t, id: newID(t), events: &eventSink{}}
	b.dir = filepath.Join(root, b.id)
	if err := os.MkdirAll(b.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	b.serveEvents(root)
	b.keepLog()
	out, err := b.call(root, input(b.id, root), "start")
	if err != nil {
		t.Fatalf("start: %v", err)
	}
	b.address = parseAddress(t, out)
	conn, err := net.Dial("unix", strings.TrimPrefix(b.address, "unix://"))
	if err != nil {
		t.Fatal(err)
	}
	b.rpc = ttrpc.NewClient(conn)
	b.tasks, b.sandbox = api.NewTaskClient(b.rpc), sandboxapi.NewTTRPCSandboxClient(b.rpc)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), command.Patience)
		defer cancel()
		_, _ = b.sandbox.ShutdownSandbox(ctx, &sandboxapi.ShutdownSandboxRequest{SandboxID: b.id}) // most tests have done it
		b.rpc.Close()
		inventory.Compare(t, before)
	})
	return b
}

// call runs the shim's binary in the bundle.
func (b *bare) call(root string, input []byte, action string) ([]byte, error) {
	cmd := exec.Command(filepath.Join(binDir, "containerd-shim-microvm-v1"), "-namespace", namespace, "-id", b.id, "-address", root+"/sock", action)
	cmd.Dir, cmd.Stdin = b.dir, bytes.NewReader(input)
	cmd.Env = append(os.Environ(), "MAX_SHIM_VERSION=2", "TTRPC_ADDRESS="+root+"/sock.ttrpc")
	return cmd.Output()
}

func (b *bare) serveEvents(root string) {
	l, err := net.Listen("unix", root+"/sock.ttrpc")
	if err != nil {
		b.t.Fatal(err)
	}
	server, err := ttrpc.NewServer()
	if err != nil {
		b.t.Fatal(err)
	}
	eventsapi.RegisterTTRPCEventsService(server, b.events)
	go func() { _ = server.Serve(context.Background(), l) }() // until it is closed
	b.t.Cleanup(func() { server.Close() })
}

// keepLog shows the shim's log when the test has failed.
func (b *bare) keepLog() {
	path := filepath.Join(b.dir, "log")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		b.t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	var log bytes.Buffer
	done := make(chan struct{})
	go func() {
		_, _ = io.Copy(&log, f) // until it is closed
		close(done)
	}()
	b.t.Cleanup(func() {
		f.Close()
		<-done
		if b.t.Failed() {
			b.t.Logf("the shim's log: %s", log.String())
		}
	})
}

// parseAddress reads any of the answers to a start.
func parseAddress(t *testing.T, out []byte) string {
	t.Helper()
	var answer struct{ Address string }
	var result bootapi.BootstrapResult
	switch {
	case json.Unmarshal(out, &answer) == nil:
		return answer.Address
	case proto.Unmarshal(out, &result) == nil && result.GetAddress() != "":
		return result.GetAddress()
	}
	return string(out)
}

// options name the machine, as a runtime's options in containerd's configuration
// do.
func options(t *testing.T) *anypb.Any {
	t.Helper()
	file := filepath.Join(t.TempDir(), "microvm.toml")
	if err := os.WriteFile(file, []byte("machine = \""+machine+"\"\nnetwork = \"user\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	value, err := proto.Marshal(&runtimeoptions.Options{ConfigPath: file})
	if err != nil {
		t.Fatal(err)
	}
	return &anypb.Any{TypeUrl: "runtimeoptions.v1.Options", Value: value}
}

// bootstrap is what containerd 2.3 and newer say to a shim.
func bootstrap(t *testing.T) func(id, dir string) []byte {
	return func(id, dir string) []byte {
		p := &bootapi.BootstrapParams{
			InstanceID: id, Namespace: namespace, ContainerdGrpcAddress: dir + "/sock", ContainerdTtrpcAddress: dir + "/sock.ttrpc",
			Extensions: []*bootapi.Extension{{Value: options(t)}},
		}
		return marshal(t, p)
	}
}

// bareOptions are what older ones say.
func bareOptions(t *testing.T) func(id, dir string) []byte {
	return func(string, string) []byte { return marshal(t, options(t)) }
}

func marshal(t *testing.T, m proto.Message) []byte {
	t.Helper()
	data, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// refused wants a code.
func refused(t *testing.T, what string, err error, want codes.Code) {
	t.Helper()
	if status.Code(err) != want {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

// must ends the test with an error.
func must[A any](a A, err error) func(t *testing.T) A {
	return func(t *testing.T) A {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
}

// bundle makes one beside the first, for a script in the pod.
func (b *bare) bundle(id, script string) string { return b.bundleIn(rootfs, id, script) }

// bundleIn does so with another root file system.
func (b *bare) bundleIn(root, id, script string) string {
	b.t.Helper()
	dir := filepath.Join(filepath.Dir(b.dir), id)
	if err := os.Mkdir(dir, 0o700); err != nil {
		b.t.Fatal(err)
	}
	spec := bundle.Example()
	spec.Root = &specs.Root{Path: root, Readonly: root == rootfs}
	spec.Process.Terminal, spec.Process.Args = false, []string{"sh", "-c", script}
	spec.Annotations = map[string]string{"io.microvm.machine": machine, "io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.sandbox-id": b.id}
	data, err := json.Marshal(spec)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, bundle.ConfigFile), data, 0o600); err != nil {
		b.t.Fatal(err)
	}
	return dir
}

// started is a sandbox that runs.
func (b *bare) started() *sandboxapi.StartSandboxResponse {
	b.t.Helper()
	must(b.sandbox.CreateSandbox(b.t.Context(), &sandboxapi.CreateSandboxRequest{SandboxID: b.id, BundlePath: b.dir}))(b.t)
	return must(b.sandbox.StartSandbox(b.t.Context(), &sandboxapi.StartSandboxRequest{SandboxID: b.id}))(b.t)
}

// TestSandboxService goes through a sandbox's life, and refuses what does not
// belong there.
func TestSandboxService(t *testing.T) {
	for name, input := range map[string]func(*testing.T) func(id, dir string) []byte{"bootstrap": bootstrap, "flags": bareOptions} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			b := startBare(t, input(t))
			b.refuseBefore()
			made := b.started()
			if made.GetPid() == 0 || time.Since(made.GetCreatedAt().AsTime()) > command.Patience {
				t.Errorf("start: %v", made)
			}
			_, err := b.sandbox.CreateSandbox(ctx, &sandboxapi.CreateSandboxRequest{SandboxID: b.id, BundlePath: b.dir})
			refused(t, "create twice", err, codes.AlreadyExists)
			_, err = b.sandbox.StartSandbox(ctx, &sandboxapi.StartSandboxRequest{SandboxID: b.id})
			refused(t, "start twice", err, codes.FailedPrecondition)
			_, err = b.sandbox.UpdateSandbox(ctx, &sandboxapi.UpdateSandboxRequest{SandboxID: b.id})
			refused(t, "update", err, codes.Unimplemented)
			b.checkRunning(made)
			ended := make(chan *sandboxapi.WaitSandboxResponse, 1)
			go func() {
				r, _ := b.sandbox.WaitSandbox(ctx, &sandboxapi.WaitSandboxRequest{SandboxID: b.id})
				ended <- r
			}()
			must(b.sandbox.StopSandbox(ctx, &sandboxapi.StopSandboxRequest{SandboxID: b.id}))(t)
			if r := <-ended; r.GetExitStatus() != 137 || r.GetExitedAt() == nil {
				t.Errorf("wait: %v", r)
			}
			must(b.sandbox.StopSandbox(ctx, &sandboxapi.StopSandboxRequest{SandboxID: b.id}))(t)
			st := must(b.sandbox.SandboxStatus(ctx, &sandboxapi.SandboxStatusRequest{SandboxID: b.id}))(t)
			if st.GetState() != "SANDBOX_NOTREADY" || st.GetExitedAt() == nil {
				t.Errorf("status of a stopped one: %v", st)
			}
			_, err = b.sandbox.PingSandbox(ctx, &sandboxapi.PingRequest{SandboxID: b.id})
			refused(t, "ping of a stopped one", err, codes.FailedPrecondition)
			b.shutdown()
			if got := b.events.String(); got != "" {
				t.Errorf("events of tasks: %s", got)
			}
		})
	}
}

// refuseBefore wants refusals before there is a sandbox, and before its start.
func (b *bare) refuseBefore() {
	ctx, t := b.t.Context(), b.t
	t.Helper()
	_, err := b.sandbox.StartSandbox(ctx, &sandboxapi.StartSandboxRequest{SandboxID: b.id})
	refused(t, "start before create", err, codes.FailedPrecondition)
	_, err = b.sandbox.SandboxStatus(ctx, &sandboxapi.SandboxStatusRequest{SandboxID: b.id})
	refused(t, "status before create", err, codes.NotFound)
	_, err = b.sandbox.CreateSandbox(ctx, &sandboxapi.CreateSandboxRequest{SandboxID: b.id, BundlePath: b.dir, Rootfs: []*types.Mount{{Type: "bind"}}})
	refused(t, "create with a root file system", err, codes.InvalidArgument)
	_, err = b.sandbox.CreateSandbox(ctx, &sandboxapi.CreateSandboxRequest{SandboxID: b.id, BundlePath: b.dir, Options: &anypb.Any{TypeUrl: "runtime.v1.PodSandboxConfig", Value: []byte{0xff}}})
	refused(t, "create with a broken configuration", err, codes.InvalidArgument)

	other := startBare(t, bootstrap(t))
	must(other.sandbox.CreateSandbox(ctx, &sandboxapi.CreateSandboxRequest{SandboxID: other.id, BundlePath: other.dir}))(t)
	st := must(other.sandbox.SandboxStatus(ctx, &sandboxapi.SandboxStatusRequest{SandboxID: other.id}))(t)
	if st.GetState() != "SANDBOX_NOTREADY" || st.GetPid() != 0 {
		t.Errorf("status before start: %v", st)
	}
	for what, call := range map[string]func() error{
		"wait": func() error {
			_, err := other.sandbox.WaitSandbox(ctx, &sandboxapi.WaitSandboxRequest{SandboxID: other.id})
			return err
		},
		"ping": func() error {
			_, err := other.sandbox.PingSandbox(ctx, &sandboxapi.PingRequest{SandboxID: other.id})
			return err
		},
		"metrics": func() error {
			_, err := other.sandbox.SandboxMetrics(ctx, &sandboxapi.SandboxMetricsRequest{SandboxID: other.id})
			return err
		},
		"a container": func() error {
			_, err := other.tasks.Create(ctx, &api.CreateTaskRequest{Id: "early", Bundle: other.bundle("early", "true")})
			return err
		},
	} {
		refused(t, what+" before start", call(), codes.FailedPrecondition)
	}
	_, err = other.sandbox.StartSandbox(ctx, &sandboxapi.StartSandboxRequest{SandboxID: "another"})
	refused(t, "start of another", err, codes.NotFound)
	_, err = other.sandbox.ShutdownSandbox(ctx, &sandboxapi.ShutdownSandboxRequest{SandboxID: "another"})
	refused(t, "shutdown of another", err, codes.NotFound)
	other.shutdown()
}

func (b *bare) checkRunning(made *sandboxapi.StartSandboxResponse) {
	ctx, t := b.t.Context(), b.t
	t.Helper()
	st := must(b.sandbox.SandboxStatus(ctx, &sandboxapi.SandboxStatusRequest{SandboxID: b.id, Verbose: true}))(t)
	if st.GetSandboxID() != b.id || st.GetState() != "SANDBOX_READY" || st.GetPid() != made.GetPid() ||
		!st.GetCreatedAt().AsTime().Equal(made.GetCreatedAt().AsTime()) || !json.Valid([]byte(st.GetInfo()["info"])) {
		t.Errorf("status: %v", st)
	}
	if p := must(b.sandbox.Platform(ctx, &sandboxapi.PlatformRequest{SandboxID: b.id}))(t).GetPlatform(); p.GetOS() != "linux" || p.GetArchitecture() != "amd64" {
		t.Errorf("platform: %v", p)
	}
	must(b.sandbox.PingSandbox(ctx, &sandboxapi.PingRequest{SandboxID: b.id}))(t)
	if m := must(b.sandbox.SandboxMetrics(ctx, &sandboxapi.SandboxMetricsRequest{SandboxID: b.id}))(t).GetMetrics(); m.GetID() != b.id || len(m.GetData().GetValue()) == 0 {
		t.Errorf("metrics: %v", m)
	}
	if c := must(b.tasks.Connect(ctx, &api.ConnectRequest{Id: b.id}))(t); c.GetTaskPid() != made.GetPid() {
		t.Errorf("connect: %v", c)
	}
}

// shutdown ends the shim, whose process and socket go.
func (b *bare) shutdown() {
	b.t.Helper()
	must(b.sandbox.ShutdownSandbox(b.t.Context(), &sandboxapi.ShutdownSandboxRequest{SandboxID: b.id}))(b.t)
	command.Eventually(b.t, "the shim's socket is gone", func() bool {
		_, err := os.Stat(strings.TrimPrefix(b.address, "unix://"))
		return os.IsNotExist(err)
	})
}

// TestShutdownOfNothing ends a shim in which nothing was made.
func TestShutdownOfNothing(t *testing.T) {
	startBare(t, bootstrap(t)).shutdown()
}

// TestTaskServiceInSandbox runs containers in a sandbox's machine, which outlives
// them.
func TestTaskServiceInSandbox(t *testing.T) {
	ctx := t.Context()
	b := startBare(t, bootstrap(t))
	pid := b.started().GetPid()
	dir := b.bundle("one", "exit 7")
	made := must(b.tasks.Create(ctx, &api.CreateTaskRequest{Id: "one", Bundle: dir}))(t)
	if made.GetPid() == 0 || made.GetPid() == pid {
		t.Errorf("pid %d is none of the container's own, the sandbox's is %d", made.GetPid(), pid)
	}
	_, err := b.tasks.Create(ctx, &api.CreateTaskRequest{Id: "one", Bundle: dir})
	refused(t, "create twice", err, codes.AlreadyExists)
	_, err = b.tasks.Checkpoint(ctx, &api.CheckpointTaskRequest{Id: "one"})
	refused(t, "checkpoint", err, codes.Unimplemented)
	_, err = b.tasks.State(ctx, &api.StateRequest{Id: "nobody"})
	refused(t, "state of nobody", err, codes.NotFound)
	must(b.tasks.Start(ctx, &api.StartRequest{Id: "one"}))(t)
	_, err = b.tasks.Start(ctx, &api.StartRequest{Id: "one"})
	refused(t, "start twice", err, codes.FailedPrecondition)
	if w := must(b.tasks.Wait(ctx, &api.WaitRequest{Id: "one"}))(t); w.GetExitStatus() != 7 {
		t.Errorf("wait: %v", w)
	}
	_, err = b.tasks.Kill(ctx, &api.KillRequest{Id: "one", Signal: 15})
	refused(t, "kill of one that has ended", err, codes.NotFound)
	must(b.tasks.Delete(ctx, &api.DeleteRequest{Id: "one"}))(t)
	// containerd says so after each container.
	must(b.tasks.Shutdown(ctx, &api.TaskShutdownRequest{Id: "one"}))(t)
	must(b.sandbox.PingSandbox(ctx, &sandboxapi.PingRequest{SandboxID: b.id}))(t)

	dir = b.bundle("two", "sleep 1000")
	must(b.tasks.Create(ctx, &api.CreateTaskRequest{Id: "two", Bundle: dir}))(t)
	must(b.tasks.Start(ctx, &api.StartRequest{Id: "two"}))(t)
	_, err = b.tasks.Delete(ctx, &api.DeleteRequest{Id: "two"})
	refused(t, "delete of one that runs", err, codes.FailedPrecondition)
	// The version of the service for daemons before 2.0.
	must(struct{}{}, b.rpc.Call(ctx, "containerd.task.v2.Task", "State", &api.StateRequest{Id: "two"}, &api.StateResponse{}))(t)
	must(b.sandbox.StopSandbox(ctx, &sandboxapi.StopSandboxRequest{SandboxID: b.id}))(t)
	if w := must(b.tasks.Wait(ctx, &api.WaitRequest{Id: "two"}))(t); w.GetExitStatus() != 137 {
		t.Errorf("wait for a container of a stopped sandbox: %v", w)
	}
	must(b.tasks.Delete(ctx, &api.DeleteRequest{Id: "two"}))(t)
	b.shutdown()
	const want = "/tasks/create /tasks/start /tasks/exit /tasks/delete /tasks/create /tasks/start /tasks/exit /tasks/delete"
	if got := b.events.String(); got != want {
		t.Errorf("events: %s\nwant    %s", got, want)
	}
}

// TestHungSandbox says so, and can be stopped in time all the same.
func TestHungSandbox(t *testing.T) {
	ctx := t.Context()
	b := startBare(t, bootstrap(t))
	pid := int(b.started().GetPid())
	must(b.tasks.Create(ctx, &api.CreateTaskRequest{Id: "one", Bundle: b.bundle("one", "sleep 1000")}))(t)
	must(b.tasks.Start(ctx, &api.StartRequest{Id: "one"}))(t)
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	b.silent("one")
	// What the shim knows itself it goes on saying.
	if s := must(b.tasks.State(ctx, &api.StateRequest{Id: "one"}))(t); s.GetStatus() != api.Status_RUNNING {
		t.Errorf("state: %v", s)
	}
	begun := time.Now()
	must(b.sandbox.StopSandbox(ctx, &sandboxapi.StopSandboxRequest{SandboxID: b.id, TimeoutSecs: 2}))(t)
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("the stop took %v", took)
	}
	b.shutdown()
}

// silent wants an error with the reason of every call that a guest would have to
// answer.
func (b *bare) silent(id string) {
	ctx, t := b.t.Context(), b.t
	t.Helper()
	limit := int64(64 << 20)
	resources := must(api.NewResources(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}}))(t)
	program := must(api.NewProcessSpec(&api.ExecProcess{Process: specs.Process{Cwd: "/", Args: []string{"true"}}}))(t)
	other := b.bundleIn(t.TempDir(), "other", "true") // the machine has not been shown that root
	var calls sync.WaitGroup
	for what, call := range map[string]func() (any, error){
		"ping":   func() (any, error) { return b.sandbox.PingSandbox(ctx, &sandboxapi.PingRequest{SandboxID: b.id}) },
		"create": func() (any, error) { return b.tasks.Create(ctx, &api.CreateTaskRequest{Id: "other", Bundle: other}) },
		"exec": func() (any, error) {
			return b.tasks.Exec(ctx, &api.ExecProcessRequest{Id: id, ExecId: "e", Spec: program, Stdout: "file://" + os.DevNull})
		},
		"kill":   func() (any, error) { return b.tasks.Kill(ctx, &api.KillRequest{Id: id, Signal: uint32(unix.SIGTERM)}) },
		"pause":  func() (any, error) { return b.tasks.Pause(ctx, &api.PauseRequest{Id: id}) },
		"resume": func() (any, error) { return b.tasks.Resume(ctx, &api.ResumeRequest{Id: id}) },
		"resize": func() (any, error) {
			return b.tasks.ResizePty(ctx, &api.ResizePtyRequest{Id: id, Width: 80, Height: 24})
		},
		"stats":  func() (any, error) { return b.tasks.Stats(ctx, &api.StatsRequest{Id: id}) },
		"update": func() (any, error) { return b.tasks.Update(ctx, &api.UpdateTaskRequest{Id: id, Resources: resources}) },
	} {
		calls.Go(func() {
			_, err := call()
			if refused(t, what, err, codes.DeadlineExceeded); err == nil || !strings.Contains(err.Error(), "does not answer") {
				t.Errorf("%s: %v", what, err)
			}
		})
	}
	calls.Wait()
}

// TestDeletedSandbox cleans up after a shim that was killed.
func TestDeletedSandbox(t *testing.T) {
	b := startBare(t, bootstrap(t))
	pid := int(b.started().GetPid())
	shimPid := must(b.tasks.Connect(t.Context(), &api.ConnectRequest{Id: b.id}))(t).GetShimPid()
	if err := unix.Kill(int(shimPid), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	out, err := b.call(filepath.Dir(b.dir), nil, "delete")
	var r api.DeleteResponse
	if err != nil || proto.Unmarshal(out, &r) != nil || r.GetPid() != uint32(pid) || r.GetExitStatus() != 137 {
		t.Errorf("delete: %v, %v", &r, err)
	}
	if _, err := os.Stat(strings.TrimPrefix(b.address, "unix://")); !os.IsNotExist(err) {
		t.Errorf("the shim's socket is left: %v", err)
	}
}

// TestFullDisk fails with the reason, leaves nothing, and works when there is
// room.
func TestFullDisk(t *testing.T) {
	ctx := t.Context()
	root := t.TempDir()
	if err := unix.Mount("tmpfs", root, "tmpfs", 0, "size=128k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(root, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	b := startBareIn(t, root, bootstrap(t))
	filler := filepath.Join(root, "filler")
	fill := func() {
		t.Helper()
		f, err := os.Create(filler)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for err == nil {
			_, err = f.Write(make([]byte, 512))
		}
	}
	full := func(what string, err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), "no space left on device") {
			t.Errorf("%s: %v", what, err)
		}
	}
	create := &sandboxapi.CreateSandboxRequest{SandboxID: b.id, BundlePath: b.dir}
	start := &sandboxapi.StartSandboxRequest{SandboxID: b.id}
	fill()
	_, err := b.sandbox.CreateSandbox(ctx, create)
	full("create", err)
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	must(b.sandbox.CreateSandbox(ctx, create))(t)
	fill()
	_, err = b.sandbox.StartSandbox(ctx, start)
	full("start", err)
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	must(b.sandbox.StartSandbox(ctx, start))(t)
	b.shutdown()
}
