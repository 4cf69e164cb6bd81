package shim

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/microvm/microvm/tests/lab/labtest"
)

// withPlugins runs what follows it in a place where ctr finds Debian's plugins and
// the network of the directory that is its first argument.
const withPlugins = `conf=$1; shift
mount -t tmpfs none /etc && mkdir -p /etc/cni && ln -s $conf /etc/cni/net.d &&
mount -t tmpfs none /opt && mkdir /opt/cni && ln -s /usr/lib/cni /opt/cni/bin &&
mount -t tmpfs none /var/lib && exec "$@"`

// TestNetworksOfCtr has ctr call CNI's plugins between the making of a container,
// whose network namespace is empty, and its start.
func TestNetworksOfCtr(t *testing.T) {
	labtest.SameOnBoth(t)
	const gateway, far = "10.81.0.1 fd81::1", "10.81.1.1 fd81::1:1"
	for _, c := range []struct{ kind, options, answers string }{
		{"bridge", `"bridge": "br0", "isGateway": true`, gateway},
		{"ptp", `"mtu": 1400`, gateway},
		// The host does not reach interfaces on its own by these.
		{"macvlan", `"master": "uplink", "mode": "bridge"`, far},
		{"ipvlan", `"master": "uplink", "mode": "l2"`, far},
	} {
		t.Run(c.kind, func(t *testing.T) {
			each(t, func(t *testing.T, s *site) {
				host := hostWithUplink(t, c.kind)
				dir := t.TempDir()
				put(t, filepath.Join(dir, "conf", "10-net.conflist"), fmt.Sprintf(`{"cniVersion": "0.4.0", "name": "net", "plugins": [{"type": %q, %s, "ipam":
					{"type": "host-local", "dataDir": %q, "ranges": [[{"subnet": "10.81.0.0/16"}], [{"subnet": "fd81::/64"}]]}}]}`, c.kind, c.options, dir+"/addresses"))
				script := "ip addr show eth0; for a in " + c.answers + "; do ping -c 1 -W 20 $a; done"
				call := s.run(s.container(), "--rm", "--cni", "--", "sh", "-c", script)
				got := call.Behind("ip", "netns", "exec", host, "sh", "-c", withPlugins, "-", dir+"/conf").Output()
				if !strings.Contains(got, "10.81.0.") || !strings.Contains(got, "fd81::") || strings.Count(got, " 0% packet loss") != 2 {
					t.Errorf("the guest says\n%s", got)
				}
			})
		})
	}
}

// hostWithUplink makes a network namespace that is the host's to plugins, with an
// interface called uplink to another one, which answers. The kernel has to know
// interfaces of a kind.
func hostWithUplink(t *testing.T, kind string) (host string) {
	t.Helper()
	host = newNamespace(t)
	far := newNamespace(t)
	tool(t, "ip", "-n", host, "link", "add", "uplink", "type", "veth", "peer", "name", "eth0", "netns", far)
	tool(t, "ip", "-n", host, "link", "set", "uplink", "up")
	tool(t, "ip", "-n", far, "link", "set", "eth0", "up")
	tool(t, "ip", "-n", far, "addr", "add", "10.81.1.1/16", "dev", "eth0")
	tool(t, "ip", "-n", far, "addr", "add", "fd81::1:1/64", "dev", "eth0", "nodad")
	if kind == "ipvlan" {
		if out, err := exec.Command("ip", "-n", far, "link", "add", "link", "eth0", "name", "probe", "type", kind, "mode", "l2").CombinedOutput(); err != nil {
			t.Skipf("the kernel makes no %s: %s", kind, out)
		}
		tool(t, "ip", "-n", far, "link", "del", "probe")
	}
	return host
}
