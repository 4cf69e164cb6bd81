package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	types "github.com/containernetworking/cni/pkg/types/100"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/microvm/microvm/netns"
	"github.com/microvm/microvm/tests/lab/labtest"
)

// cniPlugins is where Debian's containernetworking-plugins are.
const cniPlugins = "/usr/lib/cni"

// cni calls plugins as a container runtime does, in a namespace that is to them
// what the host's is to others.
type cni struct {
	*bridge
	host *netns.Namespace
}

func newCNI(t *testing.T) *cni {
	t.Helper()
	b := newBridge(t, 1500)
	host, err := netns.Open("/run/netns/" + b.name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { host.Close() })
	return &cni{b, host}
}

// add puts a namespace on the network that the plugins make, and returns what
// has a container join it, and its addresses. The plugins take all away again
// when the test ends.
func (c *cni) add(arguments map[string]any, plugins ...map[string]any) (in func(*specs.Spec), addresses []string) {
	c.t.Helper()
	name := fmt.Sprintf("%s-%d", c.name, serial.Add(1))
	c.namespace(name)
	text, err := json.Marshal(map[string]any{"cniVersion": "1.0.0", "name": name, "plugins": plugins})
	if err != nil {
		c.t.Fatal(err)
	}
	list, err := libcni.ConfListFromBytes(text)
	if err != nil {
		c.t.Fatal(err)
	}
	caller := libcni.NewCNIConfigWithCacheDir([]string{cniPlugins}, filepath.Join(c.t.TempDir(), "cache"), nil)
	container := &libcni.RuntimeConf{ContainerID: name, NetNS: "/run/netns/" + name, IfName: "eth0", CapabilityArgs: arguments}
	c.t.Cleanup(func() {
		if err := c.host.Do(func() error { return caller.DelNetworkList(context.Background(), list, container) }); err != nil {
			c.t.Error(err)
		}
	})
	err = c.host.Do(func() error {
		result, err := caller.AddNetworkList(context.Background(), list, container)
		if err != nil {
			return err
		}
		made, err := types.NewResultFromResult(result)
		if err != nil {
			return err
		}
		for _, a := range made.IPs {
			addresses = append(addresses, a.Address.IP.String())
		}
		return nil
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return (&neighbourhood{name: name}).in, addresses
}

// ipam hands out addresses of the bridge's networks, from a directory of the
// test's own.
func (c *cni) ipam() map[string]any {
	pool := func(subnet, first string) []any { return []any{map[string]any{"subnet": subnet, "rangeStart": first}} }
	return map[string]any{
		"type": "host-local", "dataDir": c.t.TempDir(),
		"ranges": []any{pool("10.80.0.0/16", "10.80.9.2"), pool("fd80::/64", "fd80::9:2")},
	}
}

// TestCNI joins networks of Debian's plugins.
func TestCNI(t *testing.T) {
	labtest.SameOnBoth(t)
	for _, c := range []struct {
		name string
		conf map[string]any
		// gateway is where the host answers.
		gateway []string
	}{
		{"bridge", map[string]any{"bridge": "br0"}, []string{"10.80.0.1", "fd80::1"}},
		{"ptp", nil, []string{"10.80.0.1", "fd80::1"}},
		// The host does not reach interfaces on its own by these.
		{"macvlan", map[string]any{"master": "uplink", "mode": "bridge"}, []string{"10.80.1.1", "fd80::1:1"}},
		{"ipvlan", map[string]any{"master": "uplink", "mode": "l2"}, []string{"10.80.1.1", "fd80::1:1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newCNI(t)
			far := n.uplink()
			if c.name == "ipvlan" {
				(&neighbourhood{t: t, peer: far}).needs(c.name, "mode", "l2")
			}
			if c.name == "ptp" { // it routes
				ip(t, "-n", n.name, "link", "del", "br0")
			}
			plugin := map[string]any{"type": c.name, "ipam": n.ipam()}
			for k, v := range c.conf {
				plugin[k] = v
			}
			in, addresses := n.add(nil, plugin)
			s := newSite(t)
			script := "ip addr show eth0"
			for _, g := range c.gateway {
				script += "; ping -c 1 -W 20 " + g
			}
			out := s.runBundle(s.bundle(sh(script), in)).Stdout
			if len(addresses) != 2 || !strings.Contains(out, addresses[0]) || !strings.Contains(out, addresses[1]) || strings.Count(out, " 0% packet loss") != 2 {
				t.Errorf("with %v the guest says\n%s", addresses, out)
			}
		})
	}
}

// uplink gives the host an interface called uplink to a namespace that answers at
// 10.80.1.1 and fd80::1:1.
func (c *cni) uplink() (far string) {
	far = c.name + "-far"
	c.namespace(far)
	ip(c.t, "-n", c.name, "link", "add", "uplink", "type", "veth", "peer", "name", "eth0", "netns", far)
	ip(c.t, "-n", c.name, "link", "set", "uplink", "up")
	ip(c.t, "-n", far, "link", "set", "eth0", "up")
	ip(c.t, "-n", far, "addr", "add", "10.80.1.1/16", "dev", "eth0")
	ip(c.t, "-n", far, "addr", "add", "fd80::1:1/64", "dev", "eth0", "nodad")
	return far
}

// TestCNIPortsAndBandwidth has the plugins behind the first: ports of the host
// and a limited rate.
func TestCNIPortsAndBandwidth(t *testing.T) {
	labtest.SameOnBoth(t)
	n := newCNI(t)
	const rate = 8 << 20 // bits a second
	in, addresses := n.add(
		map[string]any{
			"portMappings": []any{map[string]any{"hostPort": 8080, "containerPort": 9001, "protocol": "tcp"}},
			"bandwidth":    map[string]any{"ingressRate": rate, "ingressBurst": rate / 8, "egressRate": rate, "egressBurst": rate / 8},
		},
		map[string]any{"type": "bridge", "bridge": "br0", "ipMasq": true, "ipam": n.ipam()},
		map[string]any{"type": "portmap", "capabilities": map[string]any{"portMappings": true}},
		map[string]any{"type": "bandwidth", "capabilities": map[string]any{"bandwidth": true}},
	)
	s := newSite(t)
	serve := "dd if=/dev/zero of=/data bs=1M count=3 2>/dev/null; httpd -p 9002 -h /; exec " + programName + " sums :9001"
	id, _, _ := s.detached(s.withProgram(s.bundle(sh(serve), in)))
	i := newInsider(t, "/run/netns/"+n.name)
	i.awaits("10.80.0.1:8080")
	const size = 3 << 20 // three seconds, one of them at once
	limited := func(way, address string, p []byte, least int) {
		t.Helper()
		began := time.Now()
		if got, err := i.ask(address, p); len(got) < least || err != nil {
			t.Fatalf("%s: %d bytes, %v", way, len(got), err)
		}
		if took := time.Since(began); took < time.Second {
			t.Errorf("%d bytes %s at %d bits a second took %v", size, way, rate, took)
		}
	}
	limited("to the guest", "10.80.0.1:8080", make([]byte, size), 1)
	limited("from the guest", addresses[0]+":9002", []byte("GET /data HTTP/1.0\r\n\r\n"), size)
	s.command("delete", "--force", id).Output()
}
