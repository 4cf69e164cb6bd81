package network

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/microvm/microvm/agent/api"
)

const (
	// maxQuestions is how many may wait for their answer.
	maxQuestions = 256
	// answerTimeout is when a question is forgotten: who asks asks again.
	answerTimeout = 10 * time.Second
	// maxAskers is how many may ask over TCP at a time.
	maxAskers = 64
)

// nameRelay passes questions for names on to the host.
type nameRelay struct {
	host api.Stream
	at   netip.AddrPort

	mu      sync.Mutex // orders writers to host, too
	last    uint32
	waiting map[uint32]question

	listened []io.Closer // under the network's mu
}

type question struct {
	answer func([]byte)
	asked  time.Time
}

// relayNames serves names at an address until the host hangs up.
func (n *Network) relayNames(host api.Stream, at netip.AddrPort) {
	r := &nameRelay{host: host, at: at, waiting: map[uint32]question{}}
	err := n.addRelay(r)
	defer n.removeRelay(r)
	if aerr := api.AnswerDial(host, err); err != nil || aerr != nil {
		return
	}
	host.SetDeadline(time.Time{})
	for {
		var m api.NameMessage
		if m.Read(host) != nil {
			return
		}
		if answer := r.take(m.ID); answer != nil {
			answer(m.Message)
		}
	}
}

// addRelay has r listen in the containers' namespace, and in one that Adopt puts
// in its place.
func (n *Network) addRelay(r *nameRelay) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	ns, err := n.copyNamespace()
	if err != nil {
		return err
	}
	defer ns.f.Close()
	if err := r.listen(ns); err != nil {
		return err
	}
	n.relays[r] = true
	return nil
}

func (n *Network) removeRelay(r *nameRelay) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.relays, r)
	r.close()
}

// listen has r listen in ns, and nowhere else any more.
func (r *nameRelay) listen(ns namespace) error {
	var udp net.PacketConn
	var tcp net.Listener
	err := ns.do(func() (err error) {
		if udp, err = net.ListenPacket("udp", r.at.String()); err != nil {
			return err
		}
		if tcp, err = net.Listen("tcp", r.at.String()); err != nil {
			udp.Close()
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("serve names: %w", err)
	}
	r.close()
	r.listened = []io.Closer{udp, tcp}
	go r.serveDatagrams(udp)
	go r.serveStreams(tcp)
	return nil
}

// ask sends a question to the host, unless too many wait. answer is called with
// what comes back, at most once.
func (r *nameRelay) ask(p []byte, stream bool, answer func([]byte)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, q := range r.waiting {
		if time.Since(q.asked) > answerTimeout {
			delete(r.waiting, id)
		}
	}
	if len(r.waiting) >= maxQuestions {
		return
	}
	r.last++
	r.waiting[r.last] = question{answer, time.Now()}
	m := api.NameMessage{ID: r.last, Stream: stream, Message: p}
	if m.Write(r.host) != nil {
		r.host.Close()
	}
}

func (r *nameRelay) take(id uint32) func([]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	q := r.waiting[id]
	delete(r.waiting, id)
	return q.answer
}

func (r *nameRelay) serveDatagrams(c net.PacketConn) {
	p := make([]byte, 1<<16)
	for {
		n, from, err := c.ReadFrom(p)
		if err != nil {
			return
		}
		r.ask(p[:n], false, func(answer []byte) { c.WriteTo(answer, from) })
	}
}

func (r *nameRelay) serveStreams(l net.Listener) {
	slots := make(chan struct{}, maxAskers)
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		slots <- struct{}{}
		go func() {
			defer func() { <-slots }()
			defer c.Close()
			r.serveStream(c)
		}()
	}
}

// serveStream takes one question after the other.
func (r *nameRelay) serveStream(c net.Conn) {
	for {
		c.SetDeadline(time.Now().Add(answerTimeout))
		p, err := api.ReadStreamed(c)
		if err != nil {
			return
		}
		answers := make(chan []byte, 1)
		r.ask(p, true, func(answer []byte) { answers <- answer })
		select {
		case answer := <-answers:
			if api.WriteStreamed(c, answer) != nil {
				return
			}
		case <-time.After(answerTimeout):
			return
		}
	}
}

func (r *nameRelay) close() {
	for _, l := range r.listened {
		l.Close()
	}
}
