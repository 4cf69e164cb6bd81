package shim

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/microvm/microvm/tests/command"
	"github.com/microvm/microvm/tests/lab/labtest"
)

// newNamespace makes a network namespace and returns its name.
func newNamespace(t *testing.T) (name string) {
	t.Helper()
	name = fmt.Sprintf("shim-%d-%d", os.Getpid(), serial.Add(1))
	tool(t, "ip", "netns", "add", name)
	t.Cleanup(func() { tool(t, "ip", "netns", "del", name) })
	return name
}

// TestNetworkNamespace gives the guest the interface that a namespace has.
func TestNetworkNamespace(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		ns, peer := newNamespace(t), newNamespace(t)
		tool(t, "ip", "-n", ns, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", peer)
		for name, address := range map[string]string{ns: "10.79.0.2/24", peer: "10.79.0.1/24"} {
			tool(t, "ip", "-n", name, "addr", "add", address, "dev", "eth0")
			tool(t, "ip", "-n", name, "link", "set", "eth0", "up")
		}
		script := `ip -4 -o addr show eth0 | awk '{print $4}'; ping -c 1 -W 60 10.79.0.1 | grep -c ' 0% packet loss'`
		s.run(s.container(), "--rm", "--with-ns", "network:/run/netns/"+ns, "--", "sh", "-c", script).Wants(0, "10.79.0.2/24", "1")
	})
}

// portmapped is a network of pods with ports of the host.
const portmapped = `{
	"cniVersion": "0.4.0", "name": "ports",
	"plugins": [
		{"type": "bridge", "bridge": "br0", "isGateway": true, "ipMasq": true, "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.82.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}], "dataDir": "DIR/addresses"}},
		{"type": "portmap", "capabilities": {"portMappings": true}}
	]
}`

// TestHostPorts reaches pods at ports of a host that is a namespace, from there and
// from beyond it.
func TestHostPorts(t *testing.T) {
	labtest.SameOnBoth(t)
	known := daemons[len(daemons)-1]
	d, err := makeDaemon(known.Bin, filepath.Join(t.TempDir(), "d"), configuration)
	if err != nil {
		t.Fatal(err)
	}
	host, beyond := newNamespace(t), newNamespace(t)
	tool(t, "ip", "-n", host, "link", "set", "lo", "up")
	tool(t, "ip", "-n", host, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", beyond)
	for name, address := range map[string]string{host: "10.83.0.2/24", beyond: "10.83.0.1/24"} {
		tool(t, "ip", "-n", name, "addr", "add", address, "dev", "eth0")
		tool(t, "ip", "-n", name, "link", "set", "eth0", "up")
	}
	d.Network = "/run/netns/" + host
	err = d.Write(map[string]string{"cni/pods.conflist": portmapped})
	if err == nil {
		err = d.begin()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer d.Stop()
	withPods(t, d, d.handlers[len(d.handlers)-1], func(t *testing.T, p pods) {
		for port, page := range map[int]string{18080: "first", 18081: "second"} {
			one := p.podOf(object{
				"linux":         withNamespaces(nil, object{"network": ofPod}),
				"port_mappings": []object{{"container_port": 80, "host_port": port}},
			})
			one.container("mkdir /www; echo "+page+" >/www/index.html; exec httpd -f -p 80 -h /www", withNamespaces(nil, object{"network": ofPod}))
		}
		for port, page := range map[int]string{18080: "first", 18081: "second"} {
			for _, from := range []string{host, beyond} {
				fetch := []string{"ip", "netns", "exec", from, "timeout", "10", "busybox", "wget", "-q", "-O", "-", fmt.Sprintf("http://10.83.0.2:%d/", port)}
				command.Eventually(t, page+" answers to "+from, func() bool { return command.New(t, fetch...).Run().Stdout == page+"\n" })
				for range 20 { // and goes on
					if o := command.New(t, fetch...).Run(); o.Stdout != page+"\n" {
						t.Fatalf("%s from %s: %v", page, from, o)
					}
				}
			}
		}
	})
}

// TestPodNetwork reaches a server in a pod at the address that CNI gave it.
func TestPodNetwork(t *testing.T) {
	eachWithPods(t, func(t *testing.T, p pods) {
		const port = "net.ipv4.ip_unprivileged_port_start"
		one := p.podWith(withNamespaces(object{"sysctls": object{port: "77"}}, object{"network": ofPod}))
		linux := withNamespaces(nil, object{"network": ofPod, "pid": ofSelf})
		a := one.container("mkdir /www; echo hello >/www/index.html; exec httpd -f -p 80 -h /www", linux)
		address := p.address(one)
		if got := p.in(a, "ip", "-4", "-o", "addr", "show", "eth0"); !strings.Contains(got, address) {
			t.Errorf("interface %s, not %s", got, address)
		}
		command.Eventually(t, "the server answers", func() bool { return p.answers(one, "hello\n") })
		p.forwards(one, "80", "hello\n")
		b := one.container(idle, linux)
		if got := p.in(b, "sysctl", "-n", port); got != "77" {
			t.Errorf("%s is %s", port, got)
		}
		if got := p.in(b, "wget", "-q", "-O", "-", "http://127.0.0.1/"); got != "hello" {
			t.Errorf("over the pod's loopback interface: %q", got)
		}
	})
}

// address is what CNI gave a pod.
func (p pods) address(one pod) string {
	p.t.Helper()
	var status struct {
		Status struct{ Network struct{ IP string } }
	}
	text := p.crictl("inspectp", one.id).Output()
	if err := json.Unmarshal([]byte(text), &status); err != nil || status.Status.Network.IP == "" {
		p.t.Fatalf("%v: %s", err, text)
	}
	return status.Status.Network.IP
}

// answers tells whether a web server in the pod says what is wanted.
func (p pods) answers(one pod, want string) bool {
	p.t.Helper()
	client := http.Client{Timeout: 10 * time.Second}
	r, err := client.Get("http://" + p.address(one) + "/")
	if err != nil {
		return false
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	return err == nil && string(body) == want
}

// forwards reaches a web server in the pod over a port that crictl forwards.
func (p pods) forwards(one pod, port, want string) {
	p.t.Helper()
	cmd := exec.Command(crictl, p.crictlArgs("port-forward", one.id, ":"+port)...)
	said, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	var local string
	for lines := bufio.NewScanner(said); local == "" && lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "Forwarding from 127.0.0.1:"); ok {
			local, _, _ = strings.Cut(rest, " ")
		}
	}
	client := http.Client{Timeout: command.Patience}
	r, err := client.Get("http://127.0.0.1:" + local + "/")
	if err != nil {
		p.t.Fatal(err)
	}
	defer r.Body.Close()
	if body, err := io.ReadAll(r.Body); err != nil || string(body) != want {
		p.t.Errorf("over a forwarded port: %q, %v", body, err)
	}
}
