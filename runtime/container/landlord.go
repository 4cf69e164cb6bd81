package container

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/agent/api"
	"github.com/microvm/microvm/runtime/bundle"
	"github.com/microvm/microvm/runtime/sandbox"
	"github.com/microvm/microvm/runtime/state"
)

// leaseRequest asks the monitor of a container for room in its machine.
type leaseRequest struct {
	ID      string         `json:"id"`
	Size    bundle.Size    `json:"size"`
	Exports []leasedExport `json:"exports"`
	Disks   []sandbox.Disk `json:"disks,omitempty"`
}

// leasedExport is one that may be the same as another container's, if WillDo.
type leasedExport struct {
	sandbox.Export
	WillDo bool
}

// leaseReply is an error, or the names that exports have in the machine.
type leaseReply struct {
	Error string   `json:"error,omitempty"`
	Names []string `json:"names,omitempty"` // in the order of the request
}

// maxLease bounds a request or a reply, in bytes: thousands of mounts.
const maxLease = 4 << 20

// landlord lets containers into the machine of the one called id: those that join its
// namespaces. Their monitors ask for it at a socket in its state directory, and
// each has what it got for as long as it holds the connection.
type landlord struct {
	engine *Engine
	id     string
	vm     *sandbox.VM

	mu     sync.Mutex
	shared sandbox.Shared
	sizes  map[string]bundle.Size // of the containers, its own included
}

// welcome makes the container's machine ready for others that join it.
func (s *supervisor) welcome(context.Context) error {
	f, err := sandbox.Listen(s.engine.Store.Path(s.request.ID, state.MachineFile))
	if err != nil {
		return err
	}
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return fmt.Errorf("listen for containers that join: %w", err)
	}
	s.undo.add(func() { l.Close() })
	h := &landlord{engine: s.engine, id: s.request.ID, vm: s.vm, sizes: map[string]bundle.Size{s.request.ID: s.design.plan.Size}}
	go h.serve(l)
	return nil
}

func (h *landlord) serve(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return // closed
		}
		go func() {
			defer c.Close()
			if err := h.lease(c); err != nil {
				h.engine.log(h.id).WithError(err).Warn("a container could not join")
			}
		}()
	}
}

// lease serves one container until its monitor ends the connection.
func (h *landlord) lease(c net.Conn) error {
	var r leaseRequest
	if err := c.SetReadDeadline(time.Now().Add(answerGrace)); err != nil {
		return err
	}
	if err := json.NewDecoder(io.LimitReader(c, maxLease)).Decode(&r); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), workGrace)
	defer cancel()
	var use sandbox.Use
	var reply leaseReply
	var err error
	defer func() { h.evict(r.ID, &use) }()
	if reply.Names, err = h.admit(ctx, &r, &use); err != nil {
		reply = leaseReply{Error: err.Error()}
	}
	if err := json.NewEncoder(c).Encode(reply); err != nil || reply.Error != "" {
		return err
	}
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, c) // however it ends
	return nil
}

// admit gives the machine what the container needs.
func (h *landlord) admit(ctx context.Context, r *leaseRequest, use *sandbox.Use) (names []string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sizes[r.ID] = r.Size
	var all bundle.Size
	for _, s := range h.sizes {
		all.Memory += s.Memory // its CPUs stay
	}
	if err := h.engine.growHost(ctx, h.id, h.vm.Agent(), all); err != nil {
		return nil, err
	}
	for _, d := range r.Disks {
		if err := h.shared.AddDisk(ctx, h.vm, use, d); err != nil {
			return nil, err
		}
	}
	for _, x := range r.Exports {
		name, err := h.shared.AddExport(ctx, h.vm, use, x.Export, x.WillDo)
		if err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, nil
}

// growHost makes the machine of the container id large enough for containers that
// ask for want together.
func (e *Engine) growHost(ctx context.Context, id string, agent *api.Client, want bundle.Size) error {
	return e.withState(id, func(d *state.Dir, s *state.State) error {
		memory, err := Memory{s.Memory, s.Grown}.Grow(ctx, agent, want)
		if err != nil || memory.Grown == s.Grown {
			return err
		}
		s.Grown = memory.Grown
		b, err := bundle.Load(s.Bundle)
		if err == nil {
			err = e.limitMachine(s, b.Resources())
		}
		if err != nil {
			e.log(id).WithError(err).Warn("the machine's cgroup on the host has the limits of before it grew")
		}
		return d.Save(s)
	})
}

// evict ends what is left of a container and takes away what it had.
func (h *landlord) evict(id string, use *sandbox.Use) {
	ctx, cancel := context.WithTimeout(context.Background(), workGrace)
	defer cancel()
	task := h.vm.Agent().Task
	// The guest may know of no such container, or be gone with all.
	_, _ = task.Kill(ctx, &api.KillRequest{Id: id, Signal: uint32(unix.SIGKILL), All: true})
	_, _ = task.Wait(ctx, &api.WaitRequest{Id: id})
	_, _ = task.Delete(ctx, &api.DeleteRequest{Id: id})
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.sizes, id)
	select {
	case <-h.vm.Done():
		return
	default:
	}
	if err := h.shared.Drop(ctx, h.vm, use); err != nil {
		h.engine.log(h.id).WithError(err).Warn("exports or disks of a container are left in the machine")
	}
}
