package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/miekg/dns"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"

	"github.com/microvm/microvm/netns"
)

// configure gives the network's processes of the world files in /etc, which `ip netns
// exec` mounts there.
func (w *world) configure(files map[string]string) {
	w.t.Helper()
	dir := filepath.Join("/etc/netns", w.name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		os.RemoveAll(dir)
		os.Remove("/etc/netns") // if nobody else has anything there
	})
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			w.t.Fatal(err)
		}
	}
}

// nameServer answers every question with a name server's own text, at all addresses.
func (w *world) nameServer() {
	w.t.Helper()
	answer := dns.HandlerFunc(func(r dns.ResponseWriter, question *dns.Msg) {
		m, q := new(dns.Msg), question.Question[0]
		m.SetReply(question)
		head := dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET}
		switch q.Qtype {
		case dns.TypeA:
			m.Answer = append(m.Answer, &dns.A{Hdr: head, A: net.IPv4(192, 0, 2, 7)})
		case dns.TypeTXT:
			m.Answer = append(m.Answer, &dns.TXT{Hdr: head, Txt: []string{"served"}})
		}
		r.WriteMsg(m)
	})
	err := w.in.Do(func() error {
		c, err := net.ListenPacket("udp", ":53")
		if err != nil {
			return err
		}
		s := &dns.Server{PacketConn: c, Handler: answer}
		w.t.Cleanup(func() { s.Shutdown() })
		go s.ActivateAndServe()
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// ask has the guest ask the gateway.
func (g *guest) ask(name string, kind uint16) (string, error) {
	g.t.Helper()
	to := full(netip.MustParseAddr(netns.UserGateway4), 53)
	u, err := gonet.DialUDP(g.stack, nil, &to, family(netip.MustParseAddr(netns.UserGateway4)))
	if err != nil {
		return "", err
	}
	defer u.Close()
	c := &dns.Conn{Conn: u}
	c.SetDeadline(time.Now().Add(10 * time.Second))
	question := new(dns.Msg)
	question.SetQuestion(name, kind)
	if err := c.WriteMsg(question); err != nil {
		return "", err
	}
	m, err := c.ReadMsg()
	if err != nil {
		return "", err
	}
	if len(m.Answer) != 1 {
		return "", fmt.Errorf("%d answers, %s", len(m.Answer), dns.RcodeToString[m.Rcode])
	}
	switch a := m.Answer[0].(type) {
	case *dns.A:
		return a.A.String(), nil
	case *dns.TXT:
		return a.Txt[0], nil
	}
	return "", fmt.Errorf("%v", m.Answer[0])
}

// TestNames has a guest ask for names that the host's files and its name server know,
// and again after the files have changed.
func TestNames(t *testing.T) {
	w := newWorld(t)
	w.configure(map[string]string{"resolv.conf": "nameserver 10.99.0.1\n", "hosts": "192.0.2.8 neighbour.test\n"})
	w.nameServer()
	g := w.newGuest()
	for _, c := range []struct {
		name string
		kind uint16
		want string
	}{
		{"neighbour.test.", dns.TypeA, "192.0.2.8"},
		{"elsewhere.test.", dns.TypeA, "192.0.2.7"},
		{"elsewhere.test.", dns.TypeTXT, "served"},
	} {
		if got, err := g.ask(c.name, c.kind); err != nil || got != c.want {
			t.Errorf("%s: %q, %v; want %q", c.name, got, err, c.want)
		}
	}
	w.configure(map[string]string{"resolv.conf": "nameserver fd99::1\n", "hosts": "192.0.2.9 neighbour.test\n"})
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(500 * time.Millisecond) {
		got, err := g.ask("neighbour.test.", dns.TypeA)
		if err == nil && got == "192.0.2.9" {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("after the change of hosts: %q, %v", got, err)
		}
	}
	if got, err := g.ask("elsewhere.test.", dns.TypeTXT); err != nil || got != "served" {
		t.Errorf("from another server: %q, %v", got, err)
	}
}
