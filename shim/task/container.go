package task

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/containerd/containerd/api/events"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/runtime"
	"github.com/containerd/log"
	"github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	apitypes "github.com/containerd/containerd/api/types"

	"github.com/microvm/microvm/agent/api"
	"github.com/microvm/microvm/runtime/bundle"
	"github.com/microvm/microvm/runtime/container"
	"github.com/microvm/microvm/runtime/hooks"
	"github.com/microvm/microvm/runtime/sandbox"
)

// task is a container with its processes.
type task struct {
	id        string
	machine   *machine
	guest     guestTask
	blueprint *container.Blueprint
	init      *process
	stand     *stand      // nil where the machine stands for it on the host
	guestPID  uint32      // of the first process, in the guest
	use       sandbox.Use // of its pod's machine; under the service's making
	size      bundle.Size // what it asks of the machine; likewise
	// shapes says that the machine's cgroup on the host has this container's
	// limits: it is the machine's only one, or its pod's sandbox.
	shapes bool
	// silent says that it is a sandbox of the sandbox service: no program of
	// the pod stands for it, and no events tell of it.
	silent bool

	mu    sync.Mutex
	execs map[string]*process
	oom   uint64 // how many kills for want of memory are known
}

func (t *task) process(exec string) (*process, error) {
	if exec == "" {
		return t.init, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.execs[exec]; p != nil {
		return p, nil
	}
	return nil, status.Errorf(codes.NotFound, "exec %s does not exist in container %s", exec, t.id)
}

// Create implements [api.TaskService].
func (s *Service) Create(ctx context.Context, r *api.CreateTaskRequest) (*api.CreateTaskResponse, error) {
	if r.GetCheckpoint() != "" {
		return nil, status.Error(codes.Unimplemented, "restore from a checkpoint is not supported")
	}
	s.making.Lock()
	defer s.making.Unlock()
	if s.reserved && s.machine == nil {
		return nil, status.Errorf(codes.FailedPrecondition, "the pod of container %s is not started", r.GetId())
	}
	t, err := s.add(ctx, r, false)
	if err != nil {
		return nil, err
	}
	s.events.Send(runtime.TaskCreateEventTopic, &events.TaskCreate{
		ContainerID: t.id, Bundle: r.GetBundle(), Rootfs: rootfsMounts(r), Checkpoint: r.GetCheckpoint(), Pid: t.pid(),
		IO: &events.TaskIO{Stdin: r.GetStdin(), Stdout: r.GetStdout(), Stderr: r.GetStderr(), Terminal: r.GetTerminal()},
	})
	go s.watch(t, t.init)
	if !t.blueprint.Bundle.IsSandbox() {
		go s.watchMemory(t)
	}
	return &api.CreateTaskResponse{Pid: t.pid()}, nil
}

// add makes a task and lets it be found. s.making is held.
func (s *Service) add(ctx context.Context, r *api.CreateTaskRequest, silent bool) (*task, error) {
	if _, err := s.task(r.GetId()); err == nil {
		return nil, status.Errorf(codes.AlreadyExists, "container %s already exists", r.GetId())
	}
	t, err := s.create(ctx, r)
	if err != nil {
		return nil, asStatus(err)
	}
	t.silent = silent
	s.mu.Lock()
	defer s.mu.Unlock()
	s.containers[t.id] = t
	return t, nil
}

func rootfsMounts(r *api.CreateTaskRequest) (all []*apitypes.Mount) {
	for _, m := range r.GetRootfs() {
		all = append(all, &apitypes.Mount{Type: m.GetType(), Source: m.GetSource(), Target: m.GetTarget(), Options: m.GetOptions()})
	}
	return all
}

// create makes everything up to the process that waits for its start. Nothing
// is left when it fails.
func (s *Service) create(ctx context.Context, r *api.CreateTaskRequest) (t *task, err error) {
	root, err := mountRoot(r)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, unmountRoot(r.GetBundle()))
		}
	}()
	t = &task{id: r.GetId(), execs: map[string]*process{}, shapes: s.machine == nil}
	var pod bundle.Pod
	if s.machine != nil {
		pod = bundle.Pod{PID: int(s.machine.pid()), Peers: s.stands(), Dir: s.machine.dir}
	} else if s.engine.Config, err = Configure(ctx, r.GetOptions()); err != nil {
		return nil, err
	}
	if t.blueprint, err = s.engine.Blueprint(t.id, r.GetBundle(), container.ExportPrefix(t.id), root, pod); err != nil {
		return nil, err
	}
	if err := s.enter(ctx, t); err != nil {
		return nil, err
	}
	if err := s.fill(ctx, t, r); err != nil {
		s.leave(ctx, t, t.shapes)
		return nil, err
	}
	return t, nil
}

// mountRoot mounts what the snapshotter gave in the bundle's rootfs, or returns
// what the guest has to.
func mountRoot(r *api.CreateTaskRequest) (guests []*api.Mount, err error) {
	if len(r.GetRootfs()) == 0 {
		return nil, nil
	}
	dir := filepath.Join(r.GetBundle(), "rootfs")
	if err := os.Mkdir(dir, 0o711); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("make root file system's mount point: %w", err)
	}
	if guest, err := bundle.RootInGuest(r.GetRootfs(), os.Stat); guest || err != nil {
		return r.GetRootfs(), err
	}
	var mounts []mount.Mount
	for _, m := range r.GetRootfs() {
		mounts = append(mounts, mount.Mount{Type: m.GetType(), Source: m.GetSource(), Target: m.GetTarget(), Options: m.GetOptions()})
	}
	if err := mount.All(mounts, dir); err != nil {
		return nil, errors.Join(fmt.Errorf("mount root file system: %w", err), unmountRoot(r.GetBundle()))
	}
	return nil, nil
}

func unmountRoot(bundle string) error {
	if err := mount.UnmountRecursive(filepath.Join(bundle, "rootfs"), 0); err != nil {
		return fmt.Errorf("unmount root file system: %w", err)
	}
	return nil
}

// fill makes what runs in the machine.
func (s *Service) fill(ctx context.Context, t *task, r *api.CreateTaskRequest) error {
	if t.blueprint.Bundle.IsSandbox() {
		t.guest = newPause(t.machine.vm.Done())
		t.init = newProcess(t.id, "", stdioNames{}, nil)
		s.sandbox = t
		return nil
	}
	t.guest = t.machine.agent()
	if err := s.joinPod(ctx, t); err != nil {
		return err
	}
	return t.createInGuest(ctx, r)
}

func (t *task) createInGuest(ctx context.Context, r *api.CreateTaskRequest) error {
	options, err := api.NewContainerOptions(t.blueprint.Plan.Guest)
	if err != nil {
		return err
	}
	names := stdioNames{r.GetStdin(), r.GetStdout(), r.GetStderr(), r.GetTerminal()}
	io, err := openStreams(ctx, t.machine.vm, t.id, names)
	if err != nil {
		return t.machine.explain(err)
	}
	t.init = newProcess(t.id, "", names, io)
	request := &api.CreateTaskRequest{
		Id: t.id, Bundle: r.GetBundle(), Rootfs: t.blueprint.Plan.Root, Terminal: r.GetTerminal(),
		Stdin: io.guest.Stdin, Stdout: io.guest.Stdout, Stderr: io.guest.Stderr, Options: options,
	}
	made, err := ask(ctx, t, workGrace, request, t.machine.agent().Create)
	if err != nil {
		io.close()
		return err
	}
	t.guestPID = made.GetPid()
	io.flow()
	return nil
}

// hookState is what hooks are told about the container.
func (t *task) hookState(st specs.ContainerState) specs.State {
	b := t.blueprint.Bundle
	o := specs.State{Version: specs.Version, ID: t.id, Status: st, Bundle: b.Dir, Annotations: b.Spec.Annotations}
	if st != specs.StateStopped {
		o.Pid = int(t.pid())
	}
	return o
}

// runCreateHooks runs the hooks that set a container up while its machine
// boots.
func (t *task) runCreateHooks(ctx context.Context) error {
	ns := &specs.LinuxNamespace{Path: fmt.Sprintf("/proc/%d/ns/net", t.machine.vm.PID())}
	inside := func(f func() error) error { return inNetwork(ns, f) }
	return hooks.Create(ctx, t.blueprint.Bundle.Spec.Hooks, t.hookState(specs.StateCreating), t.blueprint.Bundle.Rootfs(), inside)
}

// runLateHooks runs those whose failure changes nothing any more.
func (t *task) runLateHooks(ctx context.Context, kind hooks.Kind, st specs.ContainerState) {
	hooks.RunAll(ctx, t.blueprint.Bundle.Spec.Hooks, kind, t.hookState(st), func(err error) { log.G(ctx).Warn(err) })
}
