// Package node runs a Kubernetes cluster of one node on this host: etcd, the
// control plane, kubelet, kube-proxy, containerd with this runtime beside runc, and
// CNI's bridge; or the control plane alone, whose worker is in the lab, where pods
// have KVM and daemons are slow. All that it keeps is in one directory; what it makes elsewhere
// (processes, interfaces, packet filter rules, control groups, settings of the
// kernel) it takes back. There can be one such node on a host: its ports are
// Kubernetes' own.
package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// DefaultDir is the directory of the node that `make kubernetes` runs. It is not
// below /run: containers' file systems are in it.
const DefaultDir = "/var/lib/microvm-kubernetes"

const (
	// controlAddress is the control plane's, on an interface without a network, and
	// that of a node which is all of the cluster. What is the host's beside it
	// does not matter.
	controlAddress = "10.243.0.1"
	// WorkerNetwork is that of the control plane's host, which has its first
	// address, and of a worker by itself, which has the second.
	WorkerNetwork = "10.243.1.0/30"
	workerGateway = "10.243.1.1"
	workerAddress = "10.243.1.2"
	// Name is the node's in Kubernetes.
	Name = "node"
	// Label is of nodes that have this runtime: its class wants it.
	Label = "microvm=installed"

	link     = "mvkube0" // has controlAddress
	bridge   = "mvkube1" // has the pods
	services = "10.96.0.0/16"
	pods     = "10.244.0.0/16"
	pods6    = "fd00:10:244::/64"
	// apiService is the address of the API in pods, the first of services.
	apiService = "10.96.0.1"
)

// SandboxImage is that of pods' first containers. Image is one with busybox.
const (
	SandboxImage = "localhost/pause:test"
	Image        = "localhost/busybox:test"
)

// Programs are the directories with what runs.
type Programs struct {
	// Kubernetes has the control plane, kubelet, kube-proxy and kubectl;
	// Containerd has containerd 2, ctr, crictl; Runc has containerd's shim for
	// runc; Microvm has this project's files, as `make build` leaves them.
	Kubernetes, Containerd, Runc, Microvm string
}

// Node is a node that is or was in Dir.
type Node struct {
	Dir      string `json:"-"`
	Role     Role
	Programs Programs
}

// Open finds the node in a directory.
func Open(dir string) (*Node, error) {
	n := &Node{Dir: dir}
	text, err := os.ReadFile(n.stateFile())
	if err != nil {
		return nil, fmt.Errorf("find node in %s: %w: run `make kubernetes`", dir, err)
	}
	if err := json.Unmarshal(text, n); err != nil {
		return nil, fmt.Errorf("read %s: %w", n.stateFile(), err)
	}
	return n, nil
}

// Up starts a node with all of a cluster, or its control plane alone, in a directory,
// which it makes, and returns when pods can run, or a worker can join. What it has
// started is ended if it fails.
func Up(dir string, role Role, p Programs, say func(string)) (*Node, error) {
	n := &Node{Dir: dir, Role: role, Programs: p}
	return n, n.start(n.writeCertificates, say)
}

// Join starts a worker in a directory of its own, for the control plane whose
// directory is given.
func Join(dir, control string, say func(string)) (*Node, error) {
	c, err := Open(control)
	if err != nil {
		return nil, err
	}
	n := &Node{Dir: dir, Role: Worker, Programs: c.Programs}
	return n, n.start(func() error { return n.copyCertificates(c) }, say)
}

// start is Up with what gets the certificates.
func (n *Node) start(certificates func() error, say func(string)) error {
	if _, err := os.Stat(n.Dir); err == nil {
		return fmt.Errorf("start node: %s exists: a node is or was running there: run `make kubernetes-down`", n.Dir)
	}
	for _, step := range n.steps(certificates) {
		if n.Role&step.of == 0 {
			continue
		}
		if err := step.do(); err != nil {
			return errors.Join(fmt.Errorf("start node: %s: %w", step.about, err), n.Down(func(string) {}))
		}
		say(step.about)
	}
	return nil
}

// makeDir makes the directory and writes down what the node is.
func (n *Node) makeDir() error {
	if err := os.MkdirAll(n.path("run"), 0o755); err != nil {
		return err
	}
	text, err := json.Marshal(n)
	if err != nil {
		return err
	}
	return os.WriteFile(n.stateFile(), text, 0o600)
}

func (n *Node) stateFile() string { return n.path("node.json") }

// Kubeconfig is the file with which kubectl is the cluster's administrator.
func (n *Node) Kubeconfig() string { return n.path("admin.kubeconfig") }

// Kubectl is the path of kubectl.
func (n *Node) Kubectl() string { return filepath.Join(n.Programs.Kubernetes, "kubectl") }

// Socket is containerd's.
func (n *Node) Socket() string { return n.path("containerd", "sock") }

// Log is what a program of the node's has logged.
func (n *Node) Log(program string) string {
	text, err := os.ReadFile(n.logFile(program))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func (n *Node) path(parts ...string) string { return filepath.Join(n.Dir, filepath.Join(parts...)) }

func (n *Node) logFile(program string) string { return n.path("run", program+".log") }

// searchPath is the PATH of the node's programs: containerd finds shims in it, and
// kubelet mount programs.
func (n *Node) searchPath() string {
	return strings.Join([]string{n.path("usr", "bin"), n.Programs.Runc, n.Programs.Containerd, "/usr/sbin", "/usr/bin", "/sbin", "/bin"}, ":")
}
