package network

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/microvm/microvm/agent/api"
	"github.com/microvm/microvm/netns"
)

const (
	// maxVisits is how many connections of a namespace may be in the guest at a
	// time; more wait.
	maxVisits = 512
	// visitGrace bounds the guest's answer.
	visitGrace = 20 * time.Second
)

// Loopback brings connections that are made inside of a namespace, to 127.0.0.1,
// ::1 or an address of its interfaces, to the guest. Those that nobody in the
// guest takes go to a listener of the namespace's own, or are reset.
type Loopback struct {
	In *netns.Namespace
	// Dial connects to an address in the guest.
	Dial func(context.Context, netip.AddrPort) (*net.UnixConn, error)
	Log  *logrus.Entry

	taken  *netns.Loopback
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// Start begins to take connections.
func (l *Loopback) Start() error {
	err := l.In.Do(func() (err error) {
		l.taken, err = netns.NewLoopback()
		return err
	})
	if err != nil {
		return err
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	slots := make(chan struct{}, maxVisits)
	for _, listener := range l.taken.Listeners() {
		l.wg.Go(func() { l.serve(listener, slots) })
	}
	return nil
}

func (l *Loopback) serve(listener *net.TCPListener, slots chan struct{}) {
	for {
		c, err := listener.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // such as too many descriptors
			l.Log.WithError(err).Debug("a connection to the namespace's loopback interface is lost")
			time.Sleep(settle)
			continue
		}
		select {
		case slots <- struct{}{}:
		case <-l.ctx.Done():
			c.Close()
			return
		}
		l.wg.Go(func() {
			defer func() { <-slots }()
			l.visit(c)
		})
	}
}

// visit carries c to where it was made to.
func (l *Loopback) visit(c *net.TCPConn) {
	defer c.Close()
	to := c.LocalAddr().(*net.TCPAddr).AddrPort()
	to = netip.AddrPortFrom(to.Addr().Unmap().WithZone(""), to.Port())
	there, err := l.reach(to)
	if err != nil {
		l.Log.WithError(err).Debugf("the connection to %s was reset", to)
		_ = c.SetLinger(0)
		return
	}
	defer there.Close()
	stop := context.AfterFunc(l.ctx, func() { c.Close(); there.Close() })
	defer stop()
	api.Join(c, there)
}

func (l *Loopback) reach(to netip.AddrPort) (api.Stream, error) {
	ctx, cancel := context.WithTimeout(l.ctx, visitGrace)
	defer cancel()
	guest, err := l.Dial(ctx, to)
	if err == nil {
		return guest, nil
	}
	var own *net.TCPConn
	oerr := l.In.Do(func() (err error) {
		own, err = l.taken.Own(to)
		return err
	})
	if oerr != nil {
		return nil, err
	}
	return own, nil
}

// Close ends all connections. The namespace has its loopback interface again.
// It is to be called before the namespace is closed.
func (l *Loopback) Close() error {
	if l.taken == nil {
		return nil
	}
	err := l.taken.Close()
	l.cancel()
	l.wg.Wait()
	return err
}
