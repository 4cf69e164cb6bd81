package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/microvm/microvm/tests/command"
	"github.com/microvm/microvm/tests/lab/labtest"
)

// neighbourhood is a network namespace with an interface eth0 whose other end
// is in a namespace of a peer, which answers on both of its addresses.
type neighbourhood struct {
	t          *testing.T
	name, peer string
}

const (
	guestV4, peerV4 = "10.77.0.2", "10.77.0.1"
	guestV6, peerV6 = "fd77::2", "fd77::1"
	guestMAC        = "02:00:00:77:00:02"
	guestMTU        = "1400"
)

// ip runs ip(8), or another program by `netns exec`.
func ip(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func newNeighbourhood(t *testing.T) *neighbourhood {
	t.Helper()
	n := &neighbourhood{t: t, name: fmt.Sprintf("e2e-%d-%d", os.Getpid(), serial.Add(1))}
	n.peer = n.name + "-peer"
	for _, ns := range []string{n.name, n.peer} {
		ip(t, "netns", "add", ns)
		t.Cleanup(func() { ip(t, "netns", "del", ns) })
		ip(t, "-n", ns, "link", "set", "lo", "up")
	}
	n.join("eth0")
	ip(t, "-n", n.name, "link", "set", "eth0", "address", guestMAC, "mtu", guestMTU)
	ip(t, "-n", n.peer, "link", "set", "eth0", "mtu", guestMTU)
	n.address(n.name, "eth0", guestV4+"/24", guestV6+"/64")
	n.address(n.peer, "eth0", peerV4+"/24", peerV6+"/64")
	ip(t, "-n", n.name, "route", "add", "default", "via", peerV4)
	ip(t, "-n", n.name, "route", "add", "10.88.0.0/16", "via", peerV4, "mtu", "1300", "metric", "7")
	ip(t, "-n", n.name, "-6", "route", "add", "default", "via", peerV6)
	return n
}

// join puts a new pair of interfaces called link between both namespaces.
func (n *neighbourhood) join(link string) {
	n.t.Helper()
	ip(n.t, "-n", n.name, "link", "add", link, "type", "veth", "peer", "name", link, "netns", n.peer)
	ip(n.t, "-n", n.peer, "link", "set", link, "up")
	ip(n.t, "-n", n.name, "link", "set", link, "up")
}

func (n *neighbourhood) address(ns, link string, addresses ...string) {
	n.t.Helper()
	for _, a := range addresses {
		args := []string{"-n", ns, "addr", "add", a, "dev", link}
		if strings.Contains(a, ":") {
			args = append(args, "nodad")
		}
		ip(n.t, args...)
	}
}

// in has a container join the namespace, with the right to send pings.
func (n *neighbourhood) in(spec *specs.Spec) {
	for i := range spec.Linux.Namespaces {
		if ns := &spec.Linux.Namespaces[i]; ns.Type == specs.NetworkNamespace {
			ns.Path = "/run/netns/" + n.name
		}
	}
	c := spec.Process.Capabilities
	for _, set := range []*[]string{&c.Bounding, &c.Effective, &c.Permitted} {
		*set = append(*set, "CAP_NET_RAW")
	}
}

func TestNetworkIsTheNamespaces(t *testing.T) {
	n := newNeighbourhood(t)
	s := newSite(t)
	out := s.output(s.bundle(sh(`ip link show eth0; ip addr show eth0; ip route; ip -6 route
		ping -c 2 -W 20 `+peerV4+` && ping -c 2 -W 20 `+peerV6+` && ping -c 1 -s 30000 -W 20 `+peerV4), n.in))
	for _, want := range []string{
		"eth0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu " + guestMTU, guestMAC,
		"inet " + guestV4 + "/24", "inet6 " + guestV6 + "/64", "inet6 fe80::",
		"default via " + peerV4 + " dev eth0", "10.88.0.0/16 via " + peerV4 + " dev eth0  metric 7",
		"10.77.0.0/24 dev eth0", "default via " + peerV6 + " dev eth0",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the guest has no %q:\n%s", want, out)
		}
	}
	if got := strings.Count(out, "0% packet loss"); got != 3 {
		t.Errorf("%d of 3 pings were answered:\n%s", got, out)
	}
	n.untouched()
}

// untouched fails the test if the namespace is not as it was.
func (n *neighbourhood) untouched() {
	n.t.Helper()
	if links := ip(n.t, "-n", n.name, "-o", "link"); strings.Contains(links, "microvm") {
		n.t.Errorf("left in the namespace:\n%s", links)
	}
	// Its own stack answers again.
	ip(n.t, "netns", "exec", n.peer, "busybox", "ping", "-c", "1", "-W", "10", guestV4)
}

// TestSpoofing has the guest send from a MAC that is not its interface's.
func TestSpoofing(t *testing.T) {
	labtest.SameOnBoth(t)
	n := newNeighbourhood(t)
	s := newSite(t)
	change := sh(`ping -c 1 -W 20 ` + peerV4 + ` || exit 1
		ip link set eth0 address 02:00:00:77:00:99 && ip neigh flush dev eth0
		ping -c 1 -W 3 ` + peerV4 + ` >/dev/null && echo answered || echo alone`)
	for policy, want := range map[string]string{"allow": "answered", "refuse": "alone"} {
		o := s.runBundle(s.bundle(change, n.in, netAdmin, annotated("io.microvm.spoofing", policy)))
		if o.Code != 0 || !strings.HasSuffix(o.Stdout, want+"\n") {
			t.Errorf("%s: %v, want %s", policy, o, want)
		}
	}
}

// TestNetworkStatistics counts what a ping moves.
func TestNetworkStatistics(t *testing.T) {
	labtest.SameOnBoth(t)
	n := newNeighbourhood(t)
	s := newSite(t)
	id, _, _ := s.detached(s.bundle(sh("ping -c 5 -s 1000 -W 20 "+peerV4+"; touch /done; while :; do sleep 0.1; done"), n.in))
	command.Eventually(t, "the pings are through", func() bool { return s.command("exec", id, "test", "-e", "/done").Run().Code == 0 })
	var e struct {
		Data struct {
			Interfaces []struct {
				Name                                   string
				RxBytes, RxPackets, TxBytes, TxPackets uint64
			} `json:"network_interfaces"`
		}
	}
	text := s.command("events", "--stats", id).Output()
	if err := json.Unmarshal([]byte(text), &e); err != nil || len(e.Data.Interfaces) != 1 {
		t.Fatalf("%v: %s", err, text)
	}
	i := e.Data.Interfaces[0]
	if i.Name != "eth0" || i.RxBytes < 5000 || i.TxBytes < 5000 || i.RxPackets < 5 || i.TxPackets < 5 || i.RxBytes > 50000 {
		t.Errorf("%+v", i)
	}
	// CRI takes its statistics from the namespace's own interface.
	var own []struct {
		Stats struct{ Rx, Tx struct{ Bytes uint64 } } `json:"stats64"`
	}
	text = ip(t, "-n", n.name, "-s", "-j", "link", "show", "eth0")
	if err := json.Unmarshal([]byte(text), &own); err != nil || len(own) != 1 || own[0].Stats.Rx.Bytes < 5000 || own[0].Stats.Tx.Bytes < 5000 {
		t.Errorf("%v: %s", err, text)
	}
	s.command("delete", "--force", id).Output()
}

// megabytes of a stream are enough to meet segmentation and full queues.
const megabytes = 16

func TestNetworkCarriesStreams(t *testing.T) {
	n := newNeighbourhood(t)
	s := newSite(t)
	id, pid, stdout := s.detached(s.bundle(sh(fmt.Sprintf(`mkdir -p /www; cd /www
		dd if=/dev/urandom of=data bs=1M count=%d 2>/dev/null; md5sum < data
		httpd -p 9000 -h /www
		nc -l -p 9001 -e sh -c 'cat > back'; md5sum < back`, megabytes)), n.in))
	dir := t.TempDir()
	retry := func(command string) string {
		return fmt.Sprintf("i=0; until %s 2>/dev/null; do i=$((i+1)); test $i -lt 600 || exit 1; sleep 0.1; done;", command)
	}
	peer := func(script string) string {
		t.Helper()
		return strings.TrimSpace(ip(t, "netns", "exec", n.peer, "busybox", "sh", "-c", "cd "+dir+"; "+script))
	}
	got := peer(retry("wget -q -O data http://"+guestV4+":9000/data") + "md5sum < data")
	peer(retry("nc " + guestV4 + " 9001 < data"))
	if code := waitPid(t, pid); code != 0 {
		t.Errorf("exit code %d", code)
	}
	s.command("delete", id).Output()
	out, err := os.ReadFile(stdout)
	if err != nil {
		t.Fatal(err)
	}
	if want := got + "\n" + got + "\n"; string(out) != want {
		t.Errorf("the peer got %q, the guest sent and got back %q", got, out)
	}
	n.untouched()
}

func TestInterfacesComeAndGo(t *testing.T) {
	n := newNeighbourhood(t)
	s := newSite(t)
	id, _, _ := s.detached(s.bundle(sh(idle), n.in))
	show := func() string { return s.command("exec", id, "ip", "addr").Output() }
	n.join("net1")
	n.address(n.name, "net1", "10.78.0.2/24")
	n.address(n.peer, "net1", "10.78.0.1/24")
	command.Eventually(t, "the new interface is there", func() bool {
		out := show()
		return strings.Contains(out, "net1: <BROADCAST,MULTICAST,UP,LOWER_UP>") && strings.Contains(out, "inet 10.78.0.2/24")
	})
	ip(t, "netns", "exec", n.peer, "busybox", "ping", "-c", "1", "-W", "20", "10.78.0.2")
	ip(t, "-n", n.name, "addr", "del", guestV6+"/64", "dev", "eth0")
	command.Eventually(t, "the address is gone", func() bool { return !strings.Contains(show(), guestV6) })
	ip(t, "-n", n.name, "link", "del", "net1")
	command.Eventually(t, "the interface is gone", func() bool { return !strings.Contains(show(), "net1") })
	ip(t, "netns", "exec", n.peer, "busybox", "ping", "-c", "1", "-W", "20", guestV4)
	s.command("delete", "--force", id).Output()
	n.untouched()
}

func TestInterfacesOfStartAreThere(t *testing.T) {
	n := newNeighbourhood(t)
	s := newSite(t)
	b := s.bundle(sh("ip addr show net1; ping -c 1 -W 20 10.78.0.1"), n.in)
	id, stdout := s.name(), filepath.Join(b.dir, "stdout")
	pid := s.launch(stdout, "create", "--bundle", b.dir, "--pid-file", filepath.Join(b.dir, "pid"), id)
	n.join("net1")
	n.address(n.peer, "net1", "10.78.0.1/24")
	n.address(n.name, "net1", "10.78.0.2/24")
	s.command("start", id).Output()
	code := waitPid(t, pid)
	out, err := os.ReadFile(stdout)
	if err != nil || code != 0 || !strings.Contains(string(out), "inet 10.78.0.2/24") {
		t.Errorf("exit code %d, %v:\n%s", code, err, out)
	}
	s.command("delete", id).Output()
	n.untouched()
}

func TestEmptyNamespaceIsTold(t *testing.T) {
	s := newSite(t)
	name := fmt.Sprintf("e2e-%d-empty", os.Getpid())
	ip(t, "netns", "add", name)
	t.Cleanup(func() { ip(t, "netns", "del", name) })
	o := s.runBundle(s.bundle([]string{"true"}, (&neighbourhood{name: name}).in))
	if o.Code != 0 || !strings.Contains(o.Stderr, "loopback interface only") {
		t.Errorf("%v", o)
	}
}

// inHosts puts the container into the host's network namespace.
func inHosts(spec *specs.Spec) {
	spec.Linux.Namespaces = slices.DeleteFunc(spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.NetworkNamespace })
}

func annotated(key, value string) func(*specs.Spec) {
	return func(spec *specs.Spec) { spec.Annotations = map[string]string{key: value} }
}

// hostAddresses makes addresses of this host that are not its loopback's.
func hostAddresses(t *testing.T) (all []string) {
	t.Helper()
	ip(t, "link", "add", "e2e-user", "type", "veth", "peer", "name", "e2e-peer")
	t.Cleanup(func() { ip(t, "link", "del", "e2e-user") })
	ip(t, "link", "set", "e2e-user", "up")
	for _, a := range []string{"10.79.0.1/32", "fd79::1/128"} {
		ip(t, "addr", "add", a, "dev", "e2e-user", "nodad")
		all = append(all, strings.Split(a, "/")[0])
	}
	return all
}

func TestHostsNetworkIsUserMode(t *testing.T) {
	page := strings.Repeat("of the host\n", 10000)
	server := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, page) })}
	defer server.Close()
	var fetch []string
	for _, address := range hostAddresses(t) {
		l, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
		if err != nil {
			t.Fatal(err)
		}
		go server.Serve(l)
		fetch = append(fetch, "wget -q -O - http://"+l.Addr().String())
	}
	s := newSite(t)
	if got := s.output(s.bundle(sh(strings.Join(fetch, " && ")), inHosts)); got != page+page {
		t.Errorf("the guest got %d bytes of %d", len(got), 2*len(page))
	}
	o := s.runBundle(s.bundle(sh("ls /sys/class/net; "+fetch[0]), inHosts, annotated("io.microvm.network", "none")))
	if o.Stdout != "lo\n" || o.Code == 0 {
		t.Errorf("without a network: %v", o)
	}
}

// TestNamesOfUserNetwork lets a container without a name server ask that of the
// user-mode network.
func TestNamesOfUserNetwork(t *testing.T) {
	labtest.SameOnBoth(t)
	s := newSite(t)
	ask := sh(`cat /etc/resolv.conf; nslookup -type=a localhost. >/tmp/answer; grep -q -e NXDOMAIN -e "^Name:" /tmp/answer || cat /tmp/answer`)
	const named = "nameserver 192.168.127.1\n"
	b := s.bundle(ask, inHosts)
	if got := s.output(b); got != named {
		t.Errorf("without the file: %q", got)
	}
	file := b.rootfs("etc/resolv.conf")
	if text, err := os.ReadFile(file); err != nil || len(text) != 0 {
		t.Errorf("the mount point in the root file system has %q, %v", text, err)
	}
	b.spec.Root.Readonly = true
	b.spec.Process.Args = sh("cat /etc/resolv.conf")
	b.write(t)
	if got := s.output(b); got != named {
		t.Errorf("with an empty file, read-only: %q", got)
	}
	const own = "nameserver 192.0.2.1\n"
	if err := os.WriteFile(file, []byte(own), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := s.output(b); got != own {
		t.Errorf("with a file: %q", got)
	}
}

// TestNamesOfLoopback asks a name server on the host's loopback interface, as
// systemd-resolved is one.
func TestNamesOfLoopback(t *testing.T) {
	labtest.SameOnBoth(t)
	const server = "127.0.0.77"
	c, err := net.ListenPacket("udp", server+":53")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	go func() {
		p := make([]byte, 512)
		for {
			n, from, err := c.ReadFrom(p)
			if err != nil {
				return
			}
			p[2], p[3] = p[2]|0x80, 5 // an answer: refused (RFC 1035, section 4.1.1)
			c.WriteTo(p[:n], from)
		}
	}()
	s := newSite(t)
	file := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(file, []byte("nameserver "+server+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	bound := func(spec *specs.Spec) {
		spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/etc/resolv.conf", Type: "bind", Source: file, Options: []string{"bind", "ro"}})
	}
	o := s.runBundle(s.bundle(sh("nslookup -type=a anything.example. 2>&1"), inHosts, bound))
	if !strings.Contains(o.Stdout, "REFUSED") {
		t.Errorf("%v", o)
	}
}

func TestPublishedPorts(t *testing.T) {
	labtest.SameOnBoth(t)
	s := newSite(t)
	port := freePort(t)
	serve := sh("mkdir -p /www; echo served > /www/index.html; exec httpd -f -p 80 -h /www")
	id, _, _ := s.detached(s.bundle(serve, inHosts, annotated("io.microvm.publish", port+":80,[::1]:"+port+":80")))
	for _, host := range []string{"127.0.0.1", "[::1]"} {
		command.Eventually(t, "the published port answers at "+host, func() bool {
			resp, err := http.Get("http://" + host + ":" + port)
			if err != nil {
				return false
			}
			defer resp.Body.Close()
			page, err := io.ReadAll(resp.Body)
			return err == nil && string(page) == "served\n"
		})
	}
	// The port is taken now, which another container is told.
	o := s.runBundle(s.bundle(serve, inHosts, annotated("io.microvm.publish", port+":80")))
	if o.Code == 0 || !strings.Contains(o.Stderr, "address already in use") {
		t.Errorf("the same port twice: %v", o)
	}
	s.command("delete", "--force", id).Output()
	o = s.runBundle(s.bundle(serve, annotated("io.microvm.publish", port+":80")))
	if o.Code == 0 || !strings.Contains(o.Stderr, "no user-mode network") {
		t.Errorf("published from a namespace: %v", o)
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}
