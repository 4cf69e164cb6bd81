package container

import (
	"cmp"
	"fmt"
	"github.com/opencontainers/runtime-spec/specs-go"
	"os"

	"github.com/microvm/microvm/runtime/bundle"
	"github.com/microvm/microvm/runtime/check"
	"github.com/microvm/microvm/runtime/config"
	"github.com/microvm/microvm/runtime/network"
	"github.com/microvm/microvm/runtime/sandbox"
	"github.com/microvm/microvm/runtime/state"
	"github.com/microvm/microvm/vmm/control"
)

// design is everything that is known about a container before anything of it
// exists.
type design struct {
	bundle   *bundle.Bundle
	plan     *bundle.Plan
	decision check.Decision
	machine  sandbox.Config
	// user is the network of a container in the host's network namespace, nil
	// if it is to have none.
	user   *network.User
	caches config.Caches
	// joined is the container whose machine it goes into, nil for one of its own.
	joined *state.State
}

// design reads the bundle and chooses its machine. It changes nothing.
func (e *Engine) design(id, dir string) (*design, error) {
	joined, err := e.joinedBy(dir)
	if err != nil {
		return nil, err
	}
	if joined != nil {
		return e.designTenant(id, dir, joined)
	}
	return e.designInPod(id, dir, bundle.Pod{})
}

// designInPod is design for a container in the machine of a pod.
func (e *Engine) designInPod(id, dir string, pod bundle.Pod) (*design, error) {
	if err := state.ValidateID(id); err != nil {
		return nil, err
	}
	b, err := bundle.LoadInPod(dir, pod)
	if err != nil {
		return nil, err
	}
	plan, err := b.Split(id, os.Stat)
	if err != nil {
		return nil, err
	}
	for _, n := range plan.Notices {
		e.log(id).Warn(n)
	}
	d := &design{bundle: b, plan: plan}
	return d, e.chooseMachine(d, id)
}

// chooseMachine fills decision and machine.
func (e *Engine) chooseMachine(d *design, id string) error {
	unsized := e.Config
	unsized.Memory, unsized.CPUs = 0, 0
	annotated, err := unsized.WithAnnotations(d.bundle.Spec.Annotations)
	if err != nil {
		return fmt.Errorf("%s: %w", d.bundle.Dir, err)
	}
	all, err := e.Config.WithAnnotations(d.bundle.Spec.Annotations)
	if err != nil {
		return err
	}
	parts := all.Locate(e.ExeDir)
	d.decision = check.Decide(check.ProbeMachine(parts), cmp.Or(e.Machine, all.Machine))
	if err := d.decision.Err(); err != nil {
		return err
	}
	if err := parts.Missing(d.decision.Machine); err != nil {
		return err
	}
	if d.user, err = userNetwork(d.bundle, all, parts); err != nil {
		return err
	}
	memory, cpus, err := sizes(annotated, e.Config, d.plan.Size, thisHost())
	if err != nil {
		return err
	}
	if d.caches, err = all.Caches(); err != nil {
		return err
	}
	d.machine = sandbox.Config{
		ID: id, Machine: d.decision.Machine, CPUs: cpus, Memory: memory << 20, Debug: all.Debug,
		Kernel: parts.Kernel.Path, Initramfs: parts.Initramfs.Path, VMM: parts.VMM.Path, QEMU: parts.QEMU.Path,
		Socket: e.Store.Path(id, state.SocketFile),
		Log:    e.log(id), Exports: d.exports(), Disks: disks(d.plan), OwnMACs: all.Spoofing == config.SpoofingRefuse,
		Unmitigated: all.Mitigations == config.MitigationsOff,
		Ingress:     control.Rate{Bits: uint64(all.Ingress), Frames: uint64(all.IngressFrames)},
		Egress:      control.Rate{Bits: uint64(all.Egress), Frames: uint64(all.EgressFrames)},
	}
	d.leaveRoom(annotated)
	return nil
}

// leaveRoom lets a machine grow whose size the user has not chosen.
func (d *design) leaveRoom(annotated config.Config) {
	m, h := &d.machine, thisHost()
	if annotated.Memory == 0 {
		m.MaxMemory = max(m.Memory, h.memory<<20) + 2*block // of which the guest uses whole ones only
	}
	if annotated.CPUs == 0 && d.bundle.IsSandbox() {
		m.MaxCPUs = max(m.CPUs, min(h.cpus, mostPodCPUs))
	}
}

// prefix puts prefix before the names of exports and disks.
func (d *design) prefix(prefix string) {
	d.plan.Prefix(prefix)
	d.machine.Exports, d.machine.Disks = d.exports(), disks(d.plan)
}

// prepareRoot makes in the root file system what the guest cannot make.
func (d *design) prepareRoot() error {
	if err := makeMountpoints(d.bundle.Rootfs(), d.plan); err != nil {
		return err
	}
	if d.user == nil {
		return nil
	}
	if err := provideNames(d.bundle.Rootfs(), d.plan); err != nil {
		d.machine.Log.WithError(err).Warn("network: the container names no server in /etc/resolv.conf, and cannot be given one")
	}
	return nil
}

// userNetwork is what the configuration says of a user-mode network, nil for
// none. A container with a network namespace has that instead.
func userNetwork(b *bundle.Bundle, c config.Config, parts config.Artifacts) (*network.User, error) {
	if b.Namespace(specs.NetworkNamespace) != nil || c.Network == config.NetworkNone {
		// A pod's annotations are its containers', too; its sandbox publishes.
		if inPod := bundle.PodID(b.Spec.Annotations) != "" && !b.IsSandbox(); c.Publish != "" && !inPod {
			return nil, fmt.Errorf("annotation io.microvm.publish: the container has no user-mode network: that is for the host's network namespace, and not with network = %q", config.NetworkNone)
		}
		return nil, nil
	}
	if b.IsSandbox() && c.Network != config.NetworkUser {
		return nil, fmt.Errorf("the pod asks for the host's network (hostNetwork), whose interfaces and sockets its machine cannot have: give it another runtime class, or a user-mode network with network = %q in the configuration or the annotation io.microvm.network", config.NetworkUser)
	}
	publish, err := c.Publications()
	if err == nil {
		err = parts.Network.Err
	}
	if err != nil {
		return nil, err
	}
	return &network.User{Path: parts.Network.Path, Publish: publish, OwnMAC: c.Spoofing == config.SpoofingRefuse}, nil
}

func disks(p *bundle.Plan) (all []sandbox.Disk) {
	for _, x := range p.Disks {
		all = append(all, sandbox.Disk(x))
	}
	return all
}

func (d *design) exports() (all []sandbox.Export) {
	for _, x := range d.plan.Exports {
		all = append(all, sandbox.Export{
			Name: x.Name, Path: x.Path, ReadOnly: x.ReadOnly, WritableMounts: x.WritableMounts, Submounts: x.Submounts, Follow: x.Follow, OneDevice: x.OneDevice,
			Cache: d.caches.Of(x.Destination, x.Immutable),
		})
	}
	return all
}
