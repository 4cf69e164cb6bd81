package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/sirupsen/logrus"

	"github.com/microvm/microvm/agent/api"
	"github.com/microvm/microvm/netns"
	"github.com/microvm/microvm/runtime/anchor"
	"github.com/microvm/microvm/runtime/bundle"
	"github.com/microvm/microvm/runtime/hooks"
	"github.com/microvm/microvm/runtime/network"
	"github.com/microvm/microvm/runtime/sandbox"
	"github.com/microvm/microvm/runtime/state"
)

// network gives the main thread, and with it the machine's process, the network
// namespace that the bundle asks for.
func (s *supervisor) network(context.Context) error {
	ns := s.design.bundle.Namespace(specs.NetworkNamespace)
	if ns == nil {
		s.net = NewUserNetwork(s.design.user, &s.design.machine)
		s.undo.add(s.net.Close)
		return nil
	}
	var in *netns.Namespace
	err := anchor.Do(func() (err error) {
		if err = netns.Enter(ns.Path); err == nil {
			in, err = netns.Current()
		}
		return err
	})
	if ns.Path == "" {
		err = unprivileged(err)
	}
	if err != nil || in == nil {
		return err
	}
	if os.Geteuid() != 0 {
		return in.Close()
	}
	if s.staysEmpty(ns) {
		s.net = newLoopbackNetwork(in, &s.design.machine)
	} else if s.net, err = NewNetwork(in, ns.Path, &s.design.machine); err != nil {
		return err
	}
	s.undo.add(s.net.Close)
	s.net.namespace.Synced = s.recordNetwork
	return nil
}

// staysEmpty says that nobody puts an interface into ns: run makes it, and starts
// the process before anybody else knows of it. Network devices in reserve would
// cost a tenth of the start.
func (s *supervisor) staysEmpty(ns *specs.LinuxNamespace) bool {
	return ns.Path == "" && s.request.Start && !hooks.AtCreate(s.design.bundle.Spec.Hooks)
}

// recordNetwork notes for awaitNetwork what the guest has got.
func (s *supervisor) recordNetwork(fingerprint string) {
	path := s.engine.Store.Path(s.request.ID, state.NetworkFile)
	err := state.WriteFile(path, []byte(fingerprint))
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // gone with the container
		s.engine.log(s.request.ID).WithError(err).Warn("what the guest's network is was not recorded")
	}
}

const (
	// networkGrace bounds the wait for a monitor that does nothing, restlessGrace that
	// for a namespace that changes all the time. networkPause is between two looks.
	networkGrace  = 30 * time.Second
	restlessGrace = 5 * time.Second
	networkPause  = 10 * time.Millisecond
)

// networkWait is a wait for the guest's network, which was first at the beginning.
type networkWait struct{ first string }

// over tells whether it is, when the guest's network is now got and its namespace want.
func (w networkWait) over(waited time.Duration, got, want string) bool {
	return got == want || waited >= networkGrace || waited >= restlessGrace && got != w.first
}

// awaitNetwork waits until the guest has what is in the container's network
// namespace: engines put interfaces there between create and start.
func (e *Engine) awaitNetwork(ctx context.Context, s *state.State) {
	path := e.Store.Path(s.ID, state.NetworkFile)
	if _, err := os.Stat(path); err != nil {
		return // it has no namespace
	}
	in, err := netns.Open(fmt.Sprintf("/proc/%d/ns/net", s.Monitor.PID))
	if err != nil {
		e.log(s.ID).WithError(err).Debug("the network namespace cannot be looked into")
		return
	}
	defer in.Close()
	first, _ := os.ReadFile(path)
	wait := networkWait{first: string(first)}
	for began := time.Now(); ctx.Err() == nil; time.Sleep(networkPause) {
		want, err := network.Fingerprint(in)
		if err != nil {
			e.log(s.ID).WithError(err).Debug("the network namespace cannot be read")
			return
		}
		got, _ := os.ReadFile(path)
		if waited := time.Since(began); wait.over(waited, string(got), want) {
			if string(got) != want {
				e.log(s.ID).Warnf("the guest's network is not yet what its namespace is after %v", waited.Round(time.Second))
			}
			return
		}
	}
}

// connect gives the guest what is in the namespace, now and from now on.
func (s *supervisor) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, workGrace)
	defer cancel()
	s.net.UseNames(s.design.bundle)
	if err := s.net.Connect(ctx, s.vm); err != nil {
		return s.explain(err)
	}
	return nil
}

// Network joins a machine to a network namespace of the host, or to a user-mode
// network. A nil one does nothing: a machine without devices.
type Network struct {
	user      *network.User // nil with a namespace
	namespace *network.Namespace
	loopback  *network.Loopback // of the namespace, once connected
	names     []*network.Names  // once connected
	resolv    string            // the file that names servers to the container, or ""
	path      string
	log       *logrus.Entry
	unfollow  context.CancelFunc // ends the watch over the namespace
	once      sync.Once
}

// NewNetwork gives the machine m, which is not started yet, devices for the
// interfaces in a namespace, which is the network's from now on. path is the
// namespace's in the bundle, or "". After an error nothing is open.
func NewNetwork(in *netns.Namespace, path string, m *sandbox.Config) (*Network, error) {
	n := &Network{namespace: &network.Namespace{In: in, OwnMAC: m.OwnMACs, Queues: m.TapQueues(), Log: m.Log}, path: path, log: m.Log}
	var err error
	if n.namespace.NICs, err = network.Count(in, sandbox.MaxNICs(m.Machine)); err != nil {
		return nil, errors.Join(err, in.Close())
	}
	for range n.namespace.NICs {
		m.NICs = append(m.NICs, sandbox.NIC{Tap: true})
	}
	return n, nil
}

// newLoopbackNetwork is NewNetwork for a namespace that stays without interfaces.
func newLoopbackNetwork(in *netns.Namespace, m *sandbox.Config) *Network {
	return &Network{namespace: &network.Namespace{In: in, Log: m.Log}, log: m.Log}
}

// UseNames has Connect bring name servers to the guest that the bundle's
// /etc/resolv.conf says are on a loopback interface. Engines write that as late
// as in their hooks.
func (n *Network) UseNames(b *bundle.Bundle) {
	if n != nil {
		n.resolv = b.BindSource(resolvConf)
	}
}

// NewUserNetwork gives the machine m, which is not started yet, a device for a
// user-mode network. Without one it is nil.
func NewUserNetwork(user *network.User, m *sandbox.Config) *Network {
	if user == nil {
		return nil
	}
	m.NICs = append(m.NICs, sandbox.NIC{})
	user.Log = m.Log
	return &Network{user: user, log: m.Log}
}

// Connect gives the guest of vm, which is up, what is in the namespace, now and
// until Close.
func (n *Network) Connect(ctx context.Context, vm *sandbox.VM) error {
	if n == nil {
		return nil
	}
	g := networkGuest{vm}
	if n.user != nil {
		if err := n.user.Start(ctx, g); err != nil {
			return err
		}
		n.bringNames(ctx, g)
		return nil
	}
	n.loopback = &network.Loopback{In: n.namespace.In, Dial: g.dial, Log: n.log}
	if err := n.loopback.Start(); err != nil {
		n.log.WithError(err).Warn("network: connections to the namespace's loopback interface will not reach the guest")
	}
	if n.namespace.NICs == 0 {
		return nil
	}
	found, err := n.namespace.Sync(ctx, g)
	if err != nil {
		return fmt.Errorf("set up the guest's network: %w", err)
	}
	if n.path != "" && len(found.Links) == 0 {
		n.log.Infof("network: namespace %s has a loopback interface only, and so has the guest", n.path)
	}
	n.log.Debugf("network: %s", network.Summary(found))
	n.bringNames(ctx, g)
	for _, o := range found.Others {
		n.log.Warnf("network: the guest goes without interface %s: %s", o.Name, o.Why)
	}
	for _, name := range found.Filtered {
		n.log.Warnf("network: traffic-control filters for what %s receives do not hold for the guest: put them on the other side of the interface", name)
	}
	following, stop := context.WithCancel(context.Background())
	n.unfollow = stop
	go func() {
		if err := n.namespace.Follow(following, g); err != nil {
			n.log.WithError(err).Warn("later changes of the network will not reach the guest")
		}
	}()
	return nil
}

// CatchUp has the guest have what is in the namespace now, as far as that works within
// half a minute: engines put interfaces there between create and start.
func (n *Network) CatchUp(ctx context.Context, vm *sandbox.VM) {
	if n == nil || n.namespace == nil || n.namespace.NICs == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, networkGrace)
	defer cancel()
	if err := n.namespace.CatchUp(ctx, networkGuest{vm}); err != nil {
		n.log.WithError(err).Warn("the guest's network is not what its namespace is")
	}
}

// PID is that of the process of a user-mode network, once connected; 0 if there is
// none.
func (n *Network) PID() int {
	if n == nil || n.user == nil {
		return 0
	}
	return n.user.PID()
}

// Close gives the namespace its interfaces back, the first time that it is
// called.
func (n *Network) Close() {
	if n == nil {
		return
	}
	n.once.Do(func() {
		if n.unfollow != nil {
			n.unfollow()
		}
		for _, s := range n.names {
			s.Close()
		}
		if n.user != nil {
			if err := n.user.Stop(); err != nil {
				n.log.WithError(err).Warn("the user-mode network is left behind")
			}
			return
		}
		var err error
		if n.loopback != nil {
			err = n.loopback.Close()
		}
		if err := errors.Join(err, n.namespace.Close()); err != nil {
			n.log.WithError(err).Warn("the network namespace is not as it was")
		}
	})
}

// networkGuest is a machine as package network sees it.
type networkGuest struct{ *sandbox.VM }

// SetNetwork implements network.Guest.
func (g networkGuest) SetNetwork(ctx context.Context, n *api.Network) error {
	req, err := api.NewNetworkRequest(n)
	if err != nil {
		return err
	}
	_, err = g.Agent().Machine.Network(ctx, req)
	return agentError(err)
}

// dial connects to an address in the guest.
func (g networkGuest) dial(ctx context.Context, to netip.AddrPort) (*net.UnixConn, error) {
	return g.open(ctx, to, api.Dial)
}

// serveNames has the guest ask for names over the connection.
func (g networkGuest) serveNames(ctx context.Context, at netip.AddrPort) (*net.UnixConn, error) {
	return g.open(ctx, at, api.ServeNames)
}

func (g networkGuest) open(ctx context.Context, at netip.AddrPort, greet func(io.ReadWriter, netip.AddrPort) error) (*net.UnixConn, error) {
	c, err := sandbox.Dial(ctx, g.Socket(), api.PortDial)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { c.Close() })
	err = greet(c, at)
	if !stop() || err != nil {
		c.Close()
		return nil, errors.Join(err, ctx.Err())
	}
	return c, nil
}
