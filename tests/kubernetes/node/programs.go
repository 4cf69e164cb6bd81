package node

import (
	"fmt"
	"net/http"
	"path/filepath"
	"time"
)

// commandLine is how a program of the node's is started.
func (n *Node) commandLine(name string) []string {
	kubernetes := func(args ...string) []string {
		return append([]string{filepath.Join(n.Programs.Kubernetes, name)}, args...)
	}
	client := n.path(name + ".kubeconfig")
	switch name {
	case "containerd":
		return []string{filepath.Join(n.Programs.Containerd, "containerd"), "--config", n.path("containerd", "config.toml")}
	case "etcd":
		return []string{"etcd", "--data-dir", n.path("etcd"), "--name", Name, "--unsafe-no-fsync",
			"--listen-client-urls", etcdURL, "--advertise-client-urls", etcdURL,
			"--listen-peer-urls", etcdPeerURL, "--initial-advertise-peer-urls", etcdPeerURL, "--initial-cluster", Name + "=" + etcdPeerURL}
	case "kube-apiserver":
		return kubernetes(n.apiserverFlags()...)
	case "kube-controller-manager":
		return kubernetes("--kubeconfig", client, "--authentication-kubeconfig", client, "--authorization-kubeconfig", client,
			"--bind-address=127.0.0.1", "--leader-elect=false", "--use-service-account-credentials",
			"--service-account-private-key-file", n.key("service-account"), "--root-ca-file", n.certificate("ca"))
	case "kube-scheduler":
		return kubernetes("--kubeconfig", client, "--authentication-kubeconfig", client, "--authorization-kubeconfig", client,
			"--bind-address=127.0.0.1", "--leader-elect=false")
	case "kubelet":
		return kubernetes("--kubeconfig", client, "--config", n.path("kubelet.yaml"), "--root-dir", n.path("kubelet"),
			"--hostname-override", Name, "--node-ip", n.Address(), "--node-labels", Label)
	case "kube-proxy":
		return kubernetes("--config", n.path("kube-proxy.yaml"))
	}
	panic("no program " + name)
}

// Debian's etcd may run on the usual ports.
const (
	etcdURL     = "http://127.0.0.1:23790"
	etcdPeerURL = "http://127.0.0.1:23800"
)

func (n *Node) apiserverFlags() []string {
	return []string{
		"--etcd-servers", etcdURL, "--bind-address", controlAddress, "--advertise-address", controlAddress,
		"--service-cluster-ip-range", services, "--allow-privileged",
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
		"--client-ca-file", n.certificate("ca"),
		"--tls-cert-file", n.certificate("kube-apiserver"), "--tls-private-key-file", n.key("kube-apiserver"),
		"--kubelet-certificate-authority", n.certificate("ca"),
		"--kubelet-client-certificate", n.certificate("kube-apiserver-client"), "--kubelet-client-key", n.key("kube-apiserver-client"),
		"--kubelet-preferred-address-types=InternalIP",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file", n.key("service-account"), "--service-account-signing-key-file", n.key("service-account"),
	}
}

// probe asks a program whether it works.
func (n *Node) probe(name string) error {
	switch name {
	case "containerd":
		_, err := n.output("", filepath.Join(n.Programs.Containerd, "ctr"), "--address", n.Socket(), "version")
		return err
	case "etcd":
		return get(etcdURL + "/health")
	case "kube-apiserver":
		_, err := n.output("", n.Kubectl(), "get", "--raw", "/readyz")
		return err
	case "kubelet":
		return get("http://127.0.0.1:10248/healthz")
	case "kube-proxy":
		return get("http://127.0.0.1:10249/healthz")
	}
	return nil // the node is not ready without it
}

func get(url string) error {
	client := http.Client{Timeout: 10 * time.Second}
	r, err := client.Get(url)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return fmt.Errorf("get %s: %s", url, r.Status)
	}
	return nil
}

// awaitReady waits for what pods need: that the node is ready, and that there is
// the account which they have without asking.
func (n *Node) awaitReady() error {
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(300 * time.Millisecond) {
		if _, err = n.output("", n.Kubectl(), "wait", "--for=condition=Ready", "--timeout=10s", "node/"+Name); err != nil {
			continue
		}
		if _, err = n.output("", n.Kubectl(), "get", "serviceaccount/default", "configmap/kube-root-ca.crt"); err == nil {
			return nil
		}
	}
	return fmt.Errorf("%w: kubelet's log ends with:\n%s", err, tail(n.Log("kubelet"), 20))
}

// Install puts this project's runtime in place, and tells containerd when it starts.
func (n *Node) Install() error {
	_, err := n.output("", filepath.Join(n.Programs.Microvm, "microvm-runtime"), "install",
		"--prefix", n.path("usr"), "--containerd-config", n.path("containerd", "config.toml"))
	return err
}

// Uninstall undoes that.
func (n *Node) Uninstall() error {
	_, err := n.output("", n.Runtime(), "uninstall", "--prefix", n.path("usr"))
	return err
}

// Runtime is the path of the installed runtime.
func (n *Node) Runtime() string { return n.path("usr", "bin", "microvm-runtime") }

// AddClasses makes the class of this runtime, and one of runc's, so that a test
// differs in the name only.
func (n *Node) AddClasses() error {
	class, err := n.output("", filepath.Join(n.Programs.Microvm, "microvm-runtime"), "manifest", "--nodes", Label, "--cpu", "25", "runtimeclass")
	if err != nil {
		return err
	}
	runc := "\n---\n{apiVersion: node.k8s.io/v1, kind: RuntimeClass, metadata: {name: runc}, handler: runc}\n"
	_, err = n.output(class+runc, n.Kubectl(), "apply", "-f", "-")
	return err
}
