package kubernetes

import (
	"strings"
	"testing"
)

const server = `
containers: [{name: main, image: IMAGE, command: [sh, -c, 'mkdir /www && hostname >/www/index.html && exec httpd -f -p 8080 -h /www'], ports: [{containerPort: 8080}], readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}}]
`

// TestService reaches pods by their addresses of both families and by a service's,
// from another pod and from the host, and the API from a pod.
func TestService(t *testing.T) {
	each(t, func(s *space) {
		s.pod("web", server)
		s.pod("client", "containers: [{name: main, image: IMAGE}]\n")
		s.kubectl("expose", "pod", "web", "--port=80", "--target-port=8080", "--type=NodePort")
		s.ready("web")
		s.ready("client")
		address := s.get("service/web", ".spec.clusterIP")
		s.expect("from the host", fetch(s, address+":80"), "web") // it is there, then
		s.expect("from a pod", s.run("client", get(address, "80")), "web")
		for _, ip := range strings.Fields(s.run("web", "ip -o addr show dev eth0 scope global | sed 's,.*inet6* \\([^/]*\\)/.*,\\1,'")) {
			s.expect("from "+ip, s.run("client", get(ip, "8080")), "web")
		}
		s.expect("node port", fetch(s, s.node.Address()+":"+s.get("service/web", ".spec.ports[0].nodePort")), "web")
		s.expect("service from its own pod", s.run("web", get(address, "80")), "web")
		s.expect("port of the API", s.run("client", "nc -w 30 $KUBERNETES_SERVICE_HOST $KUBERNETES_SERVICE_PORT </dev/null && echo open"), "open")
	})
}

// get is a command that prints what an HTTP server says. Debian's static busybox has
// a wget that crashes.
func get(host, port string) string {
	return "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 60 " + host + " " + port + " | tail -n 1"
}

// TestHostPort reaches a pod on a port of the node.
func TestHostPort(t *testing.T) {
	each(t, func(s *space) {
		s.pod("web", strings.Replace(server, "containerPort: 8080", "containerPort: 8080, hostPort: 18080", 1))
		s.ready("web")
		s.expect("answer", fetch(s, s.node.Address()+":18080"), "web")
	})
}

// TestNames has the names that a pod says in its files.
func TestNames(t *testing.T) {
	each(t, func(s *space) {
		s.pod("p", `
hostname: own
subdomain: sub
hostAliases: [{ip: 192.0.2.7, hostnames: [seven.example]}]
dnsPolicy: None
dnsConfig: {nameservers: [192.0.2.53], searches: [a.example, b.example], options: [{name: ndots, value: "3"}]}
containers: [{name: main, image: IMAGE}]
`)
		s.ready("p")
		s.expect("host name", s.run("p", "hostname"), "own")
		s.expect("hosts", s.run("p", "grep -q seven.example /etc/hosts && grep -q 'own.sub."+s.name+".svc.cluster.local' /etc/hosts && echo all"), "all")
		s.expect("resolv.conf", s.run("p", "cat /etc/resolv.conf"), "search a.example b.example\nnameserver 192.0.2.53\noptions ndots:3")
	})
}

// TestUserModeNetwork has a pod that asks for the host's network and says that one
// in user mode will do: it reaches what the host reaches, and is reached at the ports
// that it publishes, by probes and kubectl, too.
func TestUserModeNetwork(t *testing.T) {
	s := newSpace(t, "microvm")
	s.annotated("p", `io.microvm.network: user, io.microvm.publish: "`+s.node.Address()+`:18081:8080,127.0.0.1:18081:8080"`, `
hostNetwork: true
containers:
- name: main
  image: IMAGE
  command: [sh, -c, 'mkdir /www && echo here >/www/index.html && exec httpd -f -p 8080 -h /www']
  readinessProbe: {tcpSocket: {port: 18081}, periodSeconds: 1}
`)
	s.ready("p")
	s.expect("address of the pod", s.get("pod/p", ".status.podIP"), s.node.Address())
	s.expect("from the host", fetch(s, s.node.Address()+":18081"), "here")
	s.expect("port of the API", s.run("p", "nc -w 30 $KUBERNETES_SERVICE_HOST $KUBERNETES_SERVICE_PORT </dev/null && echo open"), "open")
	s.expect("the host's interface "+s.node.Address(), s.run("p", "ip -o addr | grep -c 'inet "+s.node.Address()+"/' || true"), "0")
	s.expect("through kubectl", fetch(s, forwarded(s, forward(s, "p", "18081"))), "here")
}
