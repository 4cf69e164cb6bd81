package container

import (
	"context"
	"fmt"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/microvm/microvm/agent/api"
	"github.com/microvm/microvm/netns"
	"github.com/microvm/microvm/runtime/anchor"
	"github.com/microvm/microvm/runtime/network"
	"github.com/microvm/microvm/runtime/sandbox"
)

// network gives the main thread, and with it the machine's process, the network
// namespace that the bundle asks for.
func (s *supervisor) network(context.Context) error {
	ns := s.design.bundle.Namespace(specs.NetworkNamespace)
	if ns == nil {
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
	if err != nil || in == nil || os.Geteuid() != 0 {
		return err
	}
	s.net = &network.Namespace{In: in, Log: s.engine.log(s.request.ID)}
	s.undo.add(s.disconnect)
	return s.addNICs()
}

// addNICs gives the machine devices for the namespace's interfaces.
func (s *supervisor) addNICs() (err error) {
	m := &s.design.machine
	s.net.NICs, err = network.Count(s.net.In, sandbox.MaxNICs(m.Machine))
	for range s.net.NICs {
		m.NICs = append(m.NICs, sandbox.NIC{Tap: true})
	}
	return err
}

// connect gives the guest what is in the namespace, now and from now on.
func (s *supervisor) connect(ctx context.Context) error {
	if s.net == nil {
		return nil
	}
	g := networkGuest{s.vm}
	found, err := s.net.Sync(ctx, g)
	if err != nil {
		return s.explain(fmt.Errorf("set up the guest's network: %w", err))
	}
	log := s.engine.log(s.request.ID)
	if given := s.design.bundle.Namespace(specs.NetworkNamespace).Path; given != "" && len(found.Links) == 0 {
		log.Infof("network: namespace %s has a loopback interface only, and so has the guest", given)
	}
	log.Debugf("network: %s", network.Summary(found))
	for _, name := range found.Others {
		log.Warnf("network: interface %s is not Ethernet: the guest goes without it", name)
	}
	following, stop := context.WithCancel(context.Background())
	s.unfollow = stop
	go func() {
		if err := s.net.Follow(following, g); err != nil {
			log.WithError(err).Warn("later changes of the network will not reach the guest")
		}
	}()
	return nil
}

// disconnect gives the namespace its interfaces back.
func (s *supervisor) disconnect() {
	if s.net == nil {
		return
	}
	if s.unfollow != nil {
		s.unfollow()
	}
	if err := s.net.Close(); err != nil {
		s.engine.log(s.request.ID).WithError(err).Warn("the network namespace is not as it was")
	}
	s.net = nil
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
