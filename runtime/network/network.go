// Package network makes a guest's network what a network namespace on the host
// is, and keeps it so: interfaces that are there, or come later, become devices
// of the guest with the same names, addresses and routes.
package network

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/microvm/microvm/agent/api"
	"github.com/microvm/microvm/netns"
)

// spare is how many interfaces may come after the machine was started.
const spare = 2

// settle is how long changes are collected before they are carried out.
const settle = 20 * time.Millisecond

// Guest is the machine that has the network.
type Guest interface {
	// AttachNIC and DetachNIC join a network device to a tap's queues, or a socket,
	// and part it.
	AttachNIC(ctx context.Context, nic int, files []*os.File, froms ...string) error
	DetachNIC(ctx context.Context, nic int) error
	// SetNetwork tells the agent what the network is to be.
	SetNetwork(ctx context.Context, n *api.Network) error
}

// Namespace is a network namespace whose interfaces a guest has.
type Namespace struct {
	// In is the namespace.
	In *netns.Namespace
	// NICs is how many network devices the guest has.
	NICs int
	// Queues is how many queues their taps have.
	Queues int
	// OwnMAC drops what the guest sends from other addresses than those that
	// its interfaces have in the namespace.
	OwnMAC bool
	Log    *logrus.Entry
	// Synced is told, by its Fingerprint, what the guest has got, or could not be
	// given; may be nil.
	Synced func(fingerprint string)

	mu   sync.Mutex
	taps map[int]*connection // by index of the interface
	told string              // Fingerprint of what the guest has got
}

// connection is an interface that is a device of the guest.
type connection struct {
	nic   int
	name  string
	tap   *netns.Tap
	froms []string // the MACs that the guest may send from, any without one
}

// Count says how many network devices a guest needs for the namespace, at most
// limit.
func Count(in *netns.Namespace, limit int) (int, error) {
	c, err := read(in)
	if err != nil {
		return 0, err
	}
	n := len(devices(c.Links))
	if n > limit {
		return 0, fmt.Errorf("the network namespace has %d interfaces, and a machine of this kind at most %d network devices", n, limit)
	}
	return min(n+spare, limit), nil
}

// devices are those of links that need a network device of their own.
func devices(links []netns.Link) []netns.Link {
	return slices.DeleteFunc(slices.Clone(links), func(l netns.Link) bool { return l.On != nil })
}

func read(in *netns.Namespace) (c *netns.Contents, err error) {
	err = in.Do(func() (err error) {
		c, err = netns.Read()
		return err
	})
	return c, err
}

// Sync makes the guest's network what the namespace is now, and returns what it
// found there.
func (n *Namespace) Sync(ctx context.Context, g Guest) (*netns.Contents, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	contents, err := read(n.In)
	if err != nil {
		return nil, err
	}
	n.dropGone(ctx, g, devices(contents.Links))
	want := &api.Network{Loopback: contents.Loopback, Routes: contents.Routes, Rules: contents.Rules, Neighbours: contents.Neighbours}
	var all []error
	for _, l := range contents.Links {
		if l.On != nil {
			want.Interfaces = append(want.Interfaces, l.Interface)
			continue
		}
		c, err := n.connect(ctx, g, &l, n.froms(&l, contents.Links))
		if err != nil {
			all = append(all, err)
			continue
		}
		l.NIC = c.nic
		want.Interfaces = append(want.Interfaces, l.Interface)
	}
	all = append(all, g.SetNetwork(ctx, want))
	found, err := fingerprint(contents), errors.Join(all...)
	if err == nil {
		n.told = found
	}
	if n.Synced != nil && ctx.Err() == nil {
		n.Synced(found)
	}
	return contents, err
}

// fingerprint differs for what differs in a guest. The time that addresses have
// left always does.
func fingerprint(c *netns.Contents) string {
	timeless := *c
	timeless.Links = slices.Clone(c.Links)
	for i := range timeless.Links {
		l := &timeless.Links[i]
		l.Addresses = slices.Clone(l.Addresses)
		for k := range l.Addresses {
			l.Addresses[k].Valid, l.Addresses[k].Preferred = 0, 0
		}
	}
	text, err := json.Marshal(&timeless)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%x", sha256.Sum256(text))
}

// Fingerprint is that of what is in the namespace now.
func Fingerprint(in *netns.Namespace) (string, error) {
	c, err := read(in)
	if err != nil {
		return "", err
	}
	return fingerprint(c), nil
}

// froms are the MACs that the guest may send from over l: its own, and those of
// interfaces on top of it.
func (n *Namespace) froms(l *netns.Link, all []netns.Link) []string {
	if !n.OwnMAC {
		return nil
	}
	own, on := []string{l.MAC}, map[string]bool{l.Name: true}
	for _, v := range all { // those come after what they are on
		if v.On != nil && on[v.On.Parent] {
			on[v.Name] = true
			own = append(own, v.MAC)
		}
	}
	return own
}

// connect returns the connection of l, which it makes if there is none.
func (n *Namespace) connect(ctx context.Context, g Guest, l *netns.Link, froms []string) (*connection, error) {
	if c := n.taps[l.Index]; c != nil {
		c.name = l.Name
		if slices.Equal(c.froms, froms) {
			return c, nil
		}
		c.froms = froms
		return c, g.AttachNIC(ctx, c.nic, c.tap.Files(), froms...)
	}
	nic, err := n.free()
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", l.Name, err)
	}
	c := &connection{nic: nic, name: l.Name, froms: froms}
	err = n.In.Do(func() (err error) {
		c.tap, err = netns.NewTap(l.Index, l.Name, n.Queues)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := g.AttachNIC(ctx, nic, c.tap.Files(), froms...); err != nil {
		return nil, errors.Join(err, n.In.Do(c.tap.Close))
	}
	if n.taps == nil {
		n.taps = map[int]*connection{}
	}
	n.taps[l.Index] = c
	return c, nil
}

func (n *Namespace) free() (int, error) {
	used := map[int]bool{}
	for _, c := range n.taps {
		used[c.nic] = true
	}
	for i := range n.NICs {
		if !used[i] {
			return i, nil
		}
	}
	return 0, fmt.Errorf("all %d network devices of the machine are in use", n.NICs)
}

// dropGone parts the devices of interfaces that are not in links.
func (n *Namespace) dropGone(ctx context.Context, g Guest, links []netns.Link) {
	present := map[int]bool{}
	for _, l := range links {
		present[l.Index] = true
	}
	for index, c := range n.taps {
		if present[index] {
			continue
		}
		delete(n.taps, index)
		err := errors.Join(g.DetachNIC(ctx, c.nic), n.In.Do(c.tap.Close))
		n.Log.WithError(err).WithField("interface", c.name).Debug("interface has gone")
	}
}

// Follow carries changes of the namespace over to the guest until ctx ends.
// It returns at once when the namespace cannot be watched.
func (n *Namespace) Follow(ctx context.Context, g Guest) error {
	stop := make(chan struct{})
	defer close(stop)
	var changes <-chan struct{}
	err := n.In.Do(func() (err error) {
		changes, err = netns.Watch(stop)
		return err
	})
	if err != nil {
		return err
	}
	// What has changed since the last Sync and before the watch is not told of.
	for err := n.CatchUp(ctx, g); ; _, err = n.Sync(ctx, g) {
		if err != nil && ctx.Err() == nil {
			n.Log.WithError(err).Warn("the guest's network differs from its namespace")
		}
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-changes:
			if !ok {
				return errors.New("the kernel ended the watch over the network namespace")
			}
		}
		time.Sleep(settle)
	}
}

// CatchUp gives the guest at once what Follow has not given it yet, if anything.
func (n *Namespace) CatchUp(ctx context.Context, g Guest) error {
	if !n.changed() {
		return nil
	}
	_, err := n.Sync(ctx, g)
	return err
}

// changed tells whether the namespace is not what the guest has got.
func (n *Namespace) changed() bool {
	now, err := Fingerprint(n.In)
	n.mu.Lock()
	defer n.mu.Unlock()
	return err != nil || now != n.told
}

// Close ends all connections and closes the namespace, whose interfaces are its
// own again.
func (n *Namespace) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []error
	for index, c := range n.taps {
		all = append(all, n.In.Do(c.tap.Close))
		delete(n.taps, index)
	}
	return errors.Join(append(all, n.In.Close())...)
}

// Summary describes what a guest gets of c, for logs.
func Summary(c *netns.Contents) string {
	if len(c.Links) == 0 {
		return "loopback only"
	}
	text := ""
	for i, l := range c.Links {
		if i > 0 {
			text += ", "
		}
		text += l.Name
		for _, a := range l.Addresses {
			text += " " + a.Prefix.String()
		}
	}
	return text
}
