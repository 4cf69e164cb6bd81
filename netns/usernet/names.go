package usernet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/netutil"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
)

const (
	namesPort    = 53
	namesTimeout = 8 * time.Second
	// maxQuestions is how many are asked at a time, and how many connections they may
	// come over.
	maxQuestions = 256
	// resolvConf names the host's servers.
	resolvConf = "/etc/resolv.conf"
)

// mostLinks is how many symbolic links are followed.
const mostLinks = 10

// Directories are those that the names' configuration is read from as long as the
// process lives: that of resolv.conf, which other files are beside, and those that it is
// a symbolic link to.
func Directories() (dirs []string) {
	file := resolvConf
	for range mostLinks {
		dirs = append(dirs, filepath.Dir(file))
		target, err := os.Readlink(file)
		if err != nil {
			break
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(file), target)
		}
		file = filepath.Clean(target)
	}
	return dirs
}

// serveNames answers at the gateway's IPv4 address: with addresses as the host
// knows them, its /etc/hosts included, and with what its name server says of
// all else.
func (g *Gateway) serveNames() error {
	at := tcpip.FullAddress{NIC: nic, Addr: address(gateways[0]), Port: namesPort}
	datagrams, err := gonet.DialUDP(g.stack, &at, nil, protocol(gateways[0]))
	if err != nil {
		return fmt.Errorf("serve names: %w", err)
	}
	streams, err := gonet.ListenTCP(g.stack, at, protocol(gateways[0]))
	if err != nil {
		return fmt.Errorf("serve names: %w", err)
	}
	handler := answerSome(maxQuestions)
	for _, s := range []*dns.Server{{PacketConn: datagrams}, {Listener: netutil.LimitListener(streams, maxQuestions)}} {
		s.Handler = handler
		go s.ActivateAndServe() // as long as the process lives
	}
	return nil
}

// answerSome answers most questions at a time, and drops what comes meanwhile: each has
// sockets of its own, and ports of the host's.
func answerSome(most int) dns.HandlerFunc {
	slots := make(chan struct{}, most)
	return func(w dns.ResponseWriter, question *dns.Msg) {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
			answerNames(w, question)
		default:
		}
	}
}

func answerNames(w dns.ResponseWriter, question *dns.Msg) {
	ctx, cancel := context.WithTimeout(context.Background(), namesTimeout)
	defer cancel()
	answer, err := resolve(ctx, question, w.LocalAddr().Network())
	if err != nil {
		answer = new(dns.Msg)
		answer.SetRcode(question, dns.RcodeServerFailure)
	}
	if w.LocalAddr().Network() == "udp" {
		size := dns.MinMsgSize
		if o := question.IsEdns0(); o != nil {
			size = max(size, int(o.UDPSize()))
		}
		answer.Truncate(size)
	}
	_ = w.WriteMsg(answer)
}

func resolve(ctx context.Context, question *dns.Msg, network string) (*dns.Msg, error) {
	if len(question.Question) == 1 {
		if t := question.Question[0].Qtype; t == dns.TypeA || t == dns.TypeAAAA {
			return resolveAddress(ctx, question)
		}
	}
	servers, err := dns.ClientConfigFromFile(resolvConf)
	if err != nil {
		return nil, err
	}
	if len(servers.Servers) == 0 {
		return nil, errors.New("no name server in " + resolvConf)
	}
	client := dns.Client{Net: network}
	answer, _, err := client.ExchangeContext(ctx, question, net.JoinHostPort(servers.Servers[0], servers.Port))
	return answer, err
}

// resolveAddress answers a question for the addresses of one family. A name that
// has only others exists.
func resolveAddress(ctx context.Context, question *dns.Msg) (*dns.Msg, error) {
	q := question.Question[0]
	answer := new(dns.Msg)
	answer.SetReply(question)
	answer.RecursionAvailable = true
	all, err := net.DefaultResolver.LookupNetIP(ctx, "ip", q.Name)
	var failed *net.DNSError
	if errors.As(err, &failed) && failed.IsNotFound {
		answer.Rcode = dns.RcodeNameError
		return answer, nil
	}
	if err != nil {
		return nil, err
	}
	for _, a := range all {
		if r := record(q, a.Unmap()); r != nil {
			answer.Answer = append(answer.Answer, r)
		}
	}
	return answer, nil
}

// record is nil for an address of the other family.
func record(q dns.Question, a netip.Addr) dns.RR {
	h := dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET}
	switch {
	case q.Qtype == dns.TypeA && a.Is4():
		return &dns.A{Hdr: h, A: a.AsSlice()}
	case q.Qtype == dns.TypeAAAA && a.Is6():
		return &dns.AAAA{Hdr: h, AAAA: a.AsSlice()}
	}
	return nil
}
