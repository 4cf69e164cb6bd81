package network

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/microvm/microvm/agent/api"
	"github.com/microvm/microvm/netns"
)

// toldGuest is a guest that is told of its network, and has no devices.
type toldGuest chan *api.Network

func (toldGuest) AttachNIC(context.Context, int, []*os.File, ...string) error {
	return errors.New("no device")
}
func (toldGuest) DetachNIC(context.Context, int) error { return errors.New("no device") }
func (g toldGuest) SetNetwork(_ context.Context, n *api.Network) error {
	g <- n
	return nil
}

// emptyNamespace has a loopback interface only.
func emptyNamespace(t *testing.T) (in *netns.Namespace) {
	t.Helper()
	here, err := netns.Current()
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	err = here.Do(func() (err error) { // on a thread that ends with it
		if err = netns.New(); err == nil {
			in, err = netns.Current()
		}
		return err
	})
	if errors.Is(err, unix.EPERM) {
		t.Skip("needs root")
	}
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// addAddress changes a namespace.
func addAddress(t *testing.T, in *netns.Namespace, address string) {
	t.Helper()
	err := in.Do(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		a, err := netlink.ParseAddr(address)
		if err != nil {
			return err
		}
		return netlink.AddrAdd(lo, a)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestCatchUp tells the guest of a change at once, and only once.
func TestCatchUp(t *testing.T) {
	g := make(toldGuest, 10)
	n := &Namespace{In: emptyNamespace(t), Log: logrus.NewEntry(logrus.New())}
	if _, err := n.Sync(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	before := <-g
	addAddress(t, n.In, "10.99.0.1/32")
	for range 2 {
		if err := n.CatchUp(t.Context(), g); err != nil {
			t.Fatal(err)
		}
	}
	if len(g) != 1 {
		t.Fatalf("the guest is told %d times", len(g))
	}
	if after := <-g; len(after.Loopback) != len(before.Loopback)+1 {
		t.Errorf("loopback has %v, and had %v", after.Loopback, before.Loopback)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}

// TestChangeBeforeTheWatch reaches the guest, though no event tells of it.
func TestChangeBeforeTheWatch(t *testing.T) {
	g := make(toldGuest, 10)
	n := &Namespace{In: emptyNamespace(t), Log: logrus.NewEntry(logrus.New())}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := n.Sync(ctx, g); err != nil {
		t.Fatal(err)
	}
	before := <-g
	addAddress(t, n.In, "10.99.0.1/32")
	ended := make(chan error)
	go func() { ended <- n.Follow(ctx, g) }()
	select {
	case after := <-g:
		if len(after.Loopback) != len(before.Loopback)+1 {
			t.Errorf("loopback has %v, and had %v", after.Loopback, before.Loopback)
		}
	case <-time.After(time.Minute):
		t.Error("the guest was not told")
	}
	cancel()
	if err := errors.Join(<-ended, n.Close()); err != nil {
		t.Error(err)
	}
}
