package network

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/microvm/microvm/agent/api"
	"github.com/microvm/microvm/netns"
)

const (
	// maxQuestions is how many of a guest's questions are asked at a time.
	maxQuestions = 64
	// nameTimeout bounds a name server's answer.
	nameTimeout = 8 * time.Second
)

// Names lets a guest ask a name server that is on a loopback interface of the
// host: docker's is in the container's network namespace.
type Names struct {
	// In is the namespace of the server, nil for that of this process.
	In     *netns.Namespace
	Server netip.AddrPort
	// Open opens the connection that the guest asks over, see api.ServeNames.
	Open func(context.Context, netip.AddrPort) (*net.UnixConn, error)
	Log  *logrus.Entry

	guest  *net.UnixConn
	ctx    context.Context // of the questions
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu sync.Mutex // orders writers to guest
}

// Start begins to answer.
func (n *Names) Start(ctx context.Context) (err error) {
	if n.guest, err = n.Open(ctx, n.Server); err != nil {
		return fmt.Errorf("bring name server %s to the guest: %w", n.Server, err)
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.wg.Go(n.serve)
	return nil
}

// serve reads questions until the guest or Close hangs up.
func (n *Names) serve() {
	slots := make(chan struct{}, maxQuestions)
	for {
		m := new(api.NameMessage)
		if m.Read(n.guest) != nil {
			return
		}
		slots <- struct{}{}
		n.wg.Go(func() {
			defer func() { <-slots }()
			n.answer(m)
		})
	}
}

// answer asks the server; without its answer the guest waits in vain, as it
// would for any server.
func (n *Names) answer(m *api.NameMessage) {
	answer, err := n.ask(m)
	if err != nil {
		n.Log.WithError(err).Debugf("name server %s", n.Server)
		return
	}
	m.Message = answer
	n.mu.Lock()
	defer n.mu.Unlock()
	_ = n.guest.SetWriteDeadline(time.Now().Add(nameTimeout)) // a guest that reads nothing
	if m.Write(n.guest) != nil {
		n.guest.Close()
	}
}

func (n *Names) ask(m *api.NameMessage) ([]byte, error) {
	c, err := n.dial(m.Stream)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	defer context.AfterFunc(n.ctx, func() { c.Close() })()
	_ = c.SetDeadline(time.Now().Add(nameTimeout))
	if m.Stream {
		if err := api.WriteStreamed(c, m.Message); err != nil {
			return nil, err
		}
		return api.ReadStreamed(c)
	}
	if _, err := c.Write(m.Message); err != nil {
		return nil, err
	}
	p := make([]byte, maxNameMessage)
	got, err := c.Read(p)
	return p[:got], err
}

// maxNameMessage is the longest message of DNS.
const maxNameMessage = 1<<16 - 1

func (n *Names) dial(stream bool) (c net.Conn, err error) {
	family := "udp"
	if stream {
		family = "tcp"
	}
	dial := func() (err error) {
		d := net.Dialer{Timeout: nameTimeout}
		c, err = d.DialContext(n.ctx, family, n.Server.String())
		return err
	}
	if n.In == nil {
		err = dial()
	} else {
		err = n.In.Do(dial)
	}
	return c, err
}

// Close ends it. It is to be called before the namespace is closed.
func (n *Names) Close() {
	if n.guest == nil {
		return
	}
	n.cancel()
	n.guest.Close()
	n.wg.Wait()
}
