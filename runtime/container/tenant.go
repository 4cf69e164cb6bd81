package container

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/microvm/microvm/agent/api"
	"github.com/microvm/microvm/netns"
	"github.com/microvm/microvm/runtime/anchor"
	"github.com/microvm/microvm/runtime/bundle"
	"github.com/microvm/microvm/runtime/sandbox"
	"github.com/microvm/microvm/runtime/state"
)

// machine is what a container runs in: one of its own, or that of another
// container, whose namespaces it joins.
type machine interface {
	// Socket is the path of the socket of [sandbox.Dial].
	Socket() string
	Agent() *api.Client
	// Done is closed when the machine cannot be used any more, and End says why.
	Done() <-chan struct{}
	End() error
	// Shutdown ends it, or what the container has of it.
	Shutdown(context.Context) error
	// Kill does so at once.
	Kill()
}

type ownMachine struct{ *sandbox.VM }

func (m ownMachine) End() error { return m.VM.End() }

// ExportPrefix is for the names of a container's exports, whose length is limited,
// in a machine for several containers.
func ExportPrefix(id string) string {
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:8]) + "-"
}

// joinedBy finds the container whose namespaces the bundle in dir names, by the pid
// of its monitor as engines do. It is nil if that is none of this store's.
func (e *Engine) joinedBy(dir string) (*state.State, error) {
	pid := bundle.JoinedPID(dir)
	if pid == 0 {
		return nil, nil
	}
	ids, err := e.Store.List()
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	for _, id := range ids {
		s, err := e.Store.Load(id)
		if err != nil || s.Monitor.PID != pid || !s.Monitor.Alive() {
			continue
		}
		if now := s.Current(); !slices.Contains(alive, now) {
			return nil, fmt.Errorf("linux.namespaces: container %s, whose namespaces the container is to join, is %s", id, now)
		}
		return s, nil
	}
	return nil, err
}

// designTenant is design for a container that joins another's namespaces.
func (e *Engine) designTenant(id, dir string, joined *state.State) (*design, error) {
	d, err := e.designInPod(id, dir, bundle.Pod{PID: joined.Monitor.PID})
	if err != nil {
		return nil, err
	}
	d.joined = joined
	d.prefix(ExportPrefix(id))
	return d, d.checkNetwork()
}

// checkNetwork refuses another network than that of the container it joins: their
// machine has one.
func (d *design) checkNetwork() error {
	path := "/proc/self/ns/net"
	if ns := d.bundle.Namespace(specs.NetworkNamespace); ns != nil {
		path = ns.Path
	}
	theirs, err := os.Stat(fmt.Sprintf("/proc/%d/ns/net", d.joined.Monitor.PID))
	if err != nil {
		return fmt.Errorf("network of container %s: %w", d.joined.ID, err)
	}
	if own, err := os.Stat(path); err != nil || !os.SameFile(own, theirs) {
		return fmt.Errorf("linux.namespaces: the container joins namespaces of container %s, and with them its machine, but not its network, of which a machine has one: join that, too", d.joined.ID)
	}
	if d.user != nil && len(d.user.Publish) > 0 {
		return fmt.Errorf("annotation io.microvm.publish: the machine is that of container %s: publish its ports there", d.joined.ID)
	}
	return nil
}

// enterNetwork gives the main thread the network namespace of the container whose
// machine this one is in.
func (s *supervisor) enterNetwork(context.Context) error {
	ns := s.design.bundle.Namespace(specs.NetworkNamespace)
	if ns == nil {
		return nil
	}
	return anchor.Do(func() error { return netns.Enter(ns.Path) })
}

// moveIn puts the container into the machine of another one.
func (s *supervisor) moveIn(ctx context.Context) error {
	if err := s.design.prepareRoot(); err != nil {
		return err
	}
	joined := s.design.joined
	t, err := s.engine.rent(ctx, cmp.Or(joined.In, joined.ID), s.request.ID, s.design)
	if err != nil {
		return err
	}
	s.machine = t
	s.undo.add(t.Kill)
	// All commands find the machine's socket in the container's directory.
	if err := os.Symlink(filepath.Join("..", t.host, state.SocketFile), t.socket); err != nil {
		return fmt.Errorf("join the machine of container %s: %w", t.host, err)
	}
	if t.agent, err = s.engine.dialAgent(ctx, s.request.ID); err != nil {
		return err
	}
	resp, err := t.agent.Task.State(ctx, &api.StateRequest{Id: joined.ID})
	if err != nil {
		return fmt.Errorf("join namespaces of container %s: %w", joined.ID, agentError(err))
	}
	s.design.plan.Join(resp.GetPid(), s.design.bundle.Joined())
	return nil
}

// tenancy is a container's part of another one's machine.
type tenancy struct {
	host   string // the container whose machine it is
	lease  *net.UnixConn
	agent  *api.Client // nil until it is dialled
	socket string
	done   chan struct{}
}

// rent asks the monitor of the container host for what d needs of its machine.
func (e *Engine) rent(ctx context.Context, host, id string, d *design) (*tenancy, error) {
	c, err := sandbox.Connect(ctx, e.Store.Path(host, state.MachineFile))
	if err != nil {
		return nil, fmt.Errorf("join the machine of container %s: %w", host, err)
	}
	t := &tenancy{host: host, lease: c.(*net.UnixConn), socket: e.Store.Path(id, state.SocketFile), done: make(chan struct{})}
	r := leaseRequest{ID: id, Size: d.plan.Size, Disks: d.machine.Disks}
	for _, x := range d.machine.Exports {
		r.Exports = append(r.Exports, leasedExport{x, d.plan.Mounts(x.Name)})
	}
	names, err := t.ask(ctx, r)
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("join the machine of container %s: %w", host, err)
	}
	for i, name := range names {
		d.plan.Remount(r.Exports[i].Name, name)
	}
	go func() {
		defer close(t.done)
		_, _ = io.Copy(io.Discard, t.lease)
	}()
	return t, nil
}

func (t *tenancy) ask(ctx context.Context, r leaseRequest) ([]string, error) {
	stop := context.AfterFunc(ctx, func() { t.lease.Close() })
	defer stop()
	if err := json.NewEncoder(t.lease).Encode(r); err != nil {
		return nil, err
	}
	var reply leaseReply
	if err := json.NewDecoder(io.LimitReader(t.lease, maxLease)).Decode(&reply); err != nil {
		return nil, errors.Join(context.Cause(ctx), err)
	}
	if reply.Error != "" {
		return nil, errors.New(reply.Error)
	}
	if len(reply.Names) != len(r.Exports) {
		return nil, fmt.Errorf("%d names for %d exports", len(reply.Names), len(r.Exports))
	}
	return reply.Names, nil
}

func (t *tenancy) Socket() string { return t.socket }

func (t *tenancy) Agent() *api.Client { return t.agent }

func (t *tenancy) Done() <-chan struct{} { return t.done }

func (t *tenancy) End() error {
	return fmt.Errorf("the machine, that of container %s, has ended", t.host)
}

// Shutdown waits until nothing of the container is left in the machine.
func (t *tenancy) Shutdown(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, workGrace)
	defer cancel()
	defer t.lease.Close()
	if t.agent != nil {
		t.agent.Close()
	}
	_ = t.lease.CloseWrite() // it may be closed
	select {
	case <-t.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("leave the machine of container %s: %w", t.host, ctx.Err())
	}
}

func (t *tenancy) Kill() { _ = t.Shutdown(context.Background()) }
