package node

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// made is a node in a directory of the test's, with what a start writes there.
func made(t *testing.T, role Role, certificates func(n *Node) error) *Node {
	t.Helper()
	n := &Node{Dir: filepath.Join(t.TempDir(), "node"), Role: role, Programs: Programs{Kubernetes: "/k"}}
	if err := n.makeDir(); err != nil {
		t.Fatal(err)
	}
	if err := certificates(n); err != nil {
		t.Fatal(err)
	}
	if err := n.writeFiles(); err != nil {
		t.Fatal(err)
	}
	return n
}

func text(t *testing.T, n *Node, file string) string {
	t.Helper()
	text, err := os.ReadFile(n.path(file))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func expectIn(t *testing.T, what, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%s has no %q:\n%s", what, p, text)
		}
	}
}

// TestWorkerJoins has a worker answer at its own address and ask the control plane at
// its, with certificates of that in a directory of its own.
func TestWorkerJoins(t *testing.T) {
	c := made(t, Control, (*Node).writeCertificates)
	w := made(t, Worker, func(n *Node) error { return n.copyCertificates(c) })
	expectIn(t, "kubelet's configuration", text(t, w, "kubelet.yaml"), "address: 10.243.1.2\n", w.path("pki", "kubelet.key"))
	expectIn(t, "kubelet's client", text(t, w, "kubelet.kubeconfig"), "https://10.243.0.1:6443", w.path("pki", "ca.crt"), w.path("pki", "kubelet.crt"))
	expectIn(t, "kube-proxy's configuration", text(t, w, "kube-proxy.yaml"), "bindAddress: 10.243.1.2\n")
	expectIn(t, "kubelet's flags", strings.Join(w.commandLine("kubelet"), " "), "--node-ip 10.243.1.2")
	if _, err := os.Stat(w.path("pki", "ca.key")); !os.IsNotExist(err) {
		t.Errorf("the worker has the authority's key: %v", err)
	}
	block, _ := pem.Decode([]byte(text(t, w, "pki/kubelet.crt")))
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []*Node{c, w} {
		if err := certificate.VerifyHostname(n.Address()); err != nil {
			t.Error(err)
		}
	}
}

// TestWholeNode asks and answers at one address.
func TestWholeNode(t *testing.T) {
	n := made(t, Whole, (*Node).writeCertificates)
	expectIn(t, "kubelet's configuration", text(t, n, "kubelet.yaml"), "address: 10.243.0.1\n", "runtimeRequestTimeout: "+patience.String()+"\n")
	expectIn(t, "kubelet's client", text(t, n, "kubelet.kubeconfig"), "https://10.243.0.1:6443")
	found, err := Open(n.Dir)
	if err != nil || *found != *n {
		t.Errorf("found %+v, %v, want %+v", found, err, n)
	}
}

func TestRolesShareAllPrograms(t *testing.T) {
	all := []string{"containerd", "etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"}
	for role, want := range map[Role][]string{
		Whole:   all,
		Control: {"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"},
		Worker:  {"containerd", "kubelet", "kube-proxy"},
	} {
		if got := (&Node{Role: role}).own(all...); !slices.Equal(got, want) {
			t.Errorf("role %d runs %q, want %q", role, got, want)
		}
	}
}

// TestStepsOfWorkerAndControlPlane has each do what is its own.
func TestStepsOfWorkerAndControlPlane(t *testing.T) {
	about := func(role Role) (all string) {
		n := &Node{Role: role}
		for _, s := range n.steps(nil) {
			if s.of&role != 0 {
				all += s.about + "\n"
			}
		}
		return all
	}
	for role, foreign := range map[Role][]string{
		Control: {"images", "node is ready", "microvm-runtime install", "network of"},
		Worker:  {"kube-apiserver", "interface"},
	} {
		for _, f := range foreign {
			if strings.Contains(about(role), f) {
				t.Errorf("role %d has a step %q", role, f)
			}
		}
	}
	expectIn(t, "control plane", about(Control), "certificates", "kube-apiserver")
	expectIn(t, "worker", about(Worker), "certificates", "network of", "node is ready")
}
