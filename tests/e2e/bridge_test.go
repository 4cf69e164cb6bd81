package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/microvm/microvm/tests/command"
	"github.com/microvm/microvm/tests/lab/labtest"
)

// bridge is a bridge br0 in a namespace of its own, with the first address of
// 10.80.0.0/16 and fd80::/64.
type bridge struct {
	t    *testing.T
	name string
	mtu  int
}

func newBridge(t *testing.T, mtu int) *bridge {
	t.Helper()
	b := &bridge{t: t, name: fmt.Sprintf("e2e-%d-%d", os.Getpid(), serial.Add(1)), mtu: mtu}
	b.namespace(b.name)
	ip(t, "-n", b.name, "link", "add", "br0", "type", "bridge")
	ip(t, "-n", b.name, "link", "set", "br0", "mtu", fmt.Sprint(mtu), "up")
	ip(t, "-n", b.name, "addr", "add", "10.80.0.1/16", "dev", "br0")
	ip(t, "-n", b.name, "addr", "add", "fd80::1/64", "dev", "br0", "nodad")
	return b
}

func (b *bridge) namespace(name string) {
	b.t.Helper()
	ip(b.t, "netns", "add", name)
	b.t.Cleanup(func() { exec.Command("ip", "netns", "del", name).Run() }) // a test may have done it
	ip(b.t, "-n", name, "link", "set", "lo", "up")
}

// addresses are those of port i.
func (b *bridge) addresses(i int) (v4, v6 string) {
	return fmt.Sprintf("10.80.%d.%d", i/250, i%250+2), fmt.Sprintf("fd80::%x", i+2)
}

// port makes a namespace whose interface eth0 is on the bridge, and returns what
// has a container join it.
func (b *bridge) port(i int) (name string, in func(*specs.Spec)) {
	b.t.Helper()
	name, far := fmt.Sprintf("%s-%d", b.name, i), fmt.Sprint("port", i)
	b.namespace(name)
	ip(b.t, "-n", name, "link", "add", "eth0", "type", "veth", "peer", "name", far, "netns", b.name)
	ip(b.t, "-n", b.name, "link", "set", far, "mtu", fmt.Sprint(b.mtu), "master", "br0", "up")
	ip(b.t, "-n", name, "link", "set", "eth0", "mtu", fmt.Sprint(b.mtu), "up")
	v4, v6 := b.addresses(i)
	ip(b.t, "-n", name, "addr", "add", v4+"/16", "brd", "+", "dev", "eth0")
	ip(b.t, "-n", name, "addr", "add", v6+"/64", "dev", "eth0", "nodad")
	ip(b.t, "-n", name, "route", "add", "default", "via", "10.80.0.1")
	return name, (&neighbourhood{name: name}).in
}

// TestMachinesOnABridge has two machines talk in all ways that a link has.
func TestMachinesOnABridge(t *testing.T) {
	b := newBridge(t, 9000)
	_, there := b.port(0)
	_, here := b.port(1)
	s := newSite(t)
	s.detached(s.withProgram(s.bundle([]string{programName, "echo"}, there)))
	v4, v6 := b.addresses(0)
	asks := [][]string{
		{"tcp", v4, "1000000"}, {"tcp", "[" + v6 + "]", "1000000"},
		{"udp", v4, "65507"}, {"udp", "[" + v6 + "]", "65527"},
		{"whole", v4, "8972"}, {"whole", "[" + v6 + "]", "8952"}, // of 9000 bytes, not to be cut
		{"udp", "10.80.255.255", "1000"}, // all on the link
		{"udp", "239.7.7.7", "1000"}, {"udp", "[ff02::7777%eth0]", "1000"},
	}
	var script strings.Builder
	for _, a := range asks {
		fmt.Fprintf(&script, "%s ask %s && echo %s answers\n", programName, strings.Join(a, " "), strings.Join(a, " "))
	}
	o := s.runBundle(s.withProgram(s.bundle(sh(script.String()), here)))
	for _, a := range asks {
		if want := strings.Join(a, " ") + " answers\n"; !strings.Contains(o.Stdout, want) {
			t.Errorf("no answer to %v", a)
		}
	}
	if t.Failed() {
		t.Log(o)
	}
}

// TestManyMachinesOnABridge has each machine answer the bridge and ask its
// neighbour. MICROVM_BRIDGED says how many there are.
func TestManyMachinesOnABridge(t *testing.T) {
	labtest.SameOnBoth(t)
	count := number(t, "MICROVM_BRIDGED", 4)
	b := newBridge(t, 1500)
	s := newSite(t)
	small := func(spec *specs.Spec) { spec.Annotations = map[string]string{"io.microvm.memory": "128"} }
	ids := make([]string, count)
	var all sync.WaitGroup
	for i := range count {
		_, in := b.port(i)
		bundle := s.bundle(sh("exec httpd -f -p 80 -h /etc"), in, small)
		all.Go(func() { ids[i], _, _ = s.detached(bundle) })
	}
	all.Wait()
	for i := range count {
		v4, v6 := b.addresses(i)
		for _, a := range []string{v4, v6} {
			ip(t, "netns", "exec", b.name, "busybox", "ping", "-c", "1", "-W", "60", a)
		}
	}
	for i := range count {
		next, _ := b.addresses((i + 1) % count)
		all.Go(func() {
			if got := s.command("exec", ids[i], "wget", "-q", "-O", "-", "http://"+next+"/group").Output(); !strings.Contains(got, "nogroup") {
				t.Errorf("machine %d got %q of its neighbour", i, got)
			}
		})
	}
	all.Wait()
	for _, id := range ids {
		all.Go(func() { s.command("delete", "--force", id).Output() })
	}
	all.Wait()
}

// TestNamespaceVanishes takes the interface and the name of the namespace from a
// machine.
func TestNamespaceVanishes(t *testing.T) {
	labtest.SameOnBoth(t)
	b := newBridge(t, 1500)
	name, in := b.port(0)
	s := newSite(t)
	id, pid, _ := s.detached(s.bundle(sh("trap 'exit 7' TERM; while :; do sleep 0.1; done"), in))
	ip(t, "-n", b.name, "link", "del", "port0")
	ip(t, "netns", "del", name)
	command.Eventually(t, "the interface is gone", func() bool {
		return !strings.Contains(s.command("exec", id, "ip", "link").Output(), "eth0")
	})
	time.Sleep(100 * time.Millisecond)
	if got := s.command("exec", id, "echo", "well").Output(); got != "well\n" {
		t.Errorf("the machine says %q", got)
	}
	s.command("kill", id, "TERM").Output()
	if code := waitPid(t, pid); code != 7 {
		t.Errorf("exit code %d", code)
	}
	s.command("delete", id).Output()
}

// TestFirewallInTheGuest has a container with rights over its network redirect,
// refuse and count connections, with the host's programs.
func TestFirewallInTheGuest(t *testing.T) {
	labtest.SameOnBoth(t)
	b := newBridge(t, 1500)
	_, in := b.port(0)
	s := newSite(t)
	script := `set -e; mkdir -p /run; ip link set lo up
		for t in iptables-nft iptables-legacy; do
			/usr/sbin/$t -t nat -A PREROUTING -p tcp --dport $1 -j REDIRECT --to-ports 8080; shift
			/usr/sbin/$t -A INPUT -p tcp --dport $1 -m conntrack --ctstate NEW -j REJECT --reject-with tcp-reset; shift
		done
		/usr/sbin/ip6tables-nft -A INPUT -p tcp --dport 8080 -j REJECT --reject-with tcp-reset
		httpd -p 8080 -h /etc; touch /ready; while :; do sleep 0.1; done`
	id, _, _ := s.detached(s.bundle(append(sh(script), "sh", "81", "82", "91", "92"), in, netAdmin, withHostsPrograms(t)))
	command.Eventually(t, "the rules are set", func() bool {
		return s.command("exec", id, "test", "-e", "/ready").Run().Code == 0
	})
	v4, v6 := b.addresses(0)
	peer := newInsider(t, "/run/netns/"+b.name)
	for address, served := range map[string]bool{v4 + ":8080": true, v4 + ":81": true, v4 + ":91": true, v4 + ":82": false, v4 + ":92": false, "[" + v6 + "]:8080": false} {
		got, err := peer.ask(address, []byte("GET /group HTTP/1.0\r\n\r\n"))
		if strings.Contains(got, "nogroup") != served || (err == nil) != served {
			t.Errorf("%s: %q, %v", address, got, err)
		}
	}
	if got := s.command("exec", id, "cat", "/proc/net/nf_conntrack").Output(); !strings.Contains(got, "dport=81") {
		t.Errorf("connections that the guest tracks:\n%s", got)
	}
	s.command("delete", "--force", id).Output()
}

// resolved is what path is without links.
func resolved(t *testing.T, path string) string {
	t.Helper()
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		t.Fatal(err)
	}
	return real
}
