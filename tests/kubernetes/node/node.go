// Package node runs a Kubernetes cluster of one node on this host: etcd, the
// control plane, kubelet, kube-proxy, containerd with this runtime beside runc, and
// CNI's bridge. All that it keeps is in one directory; what it makes elsewhere
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
	// Address is the node's own, on an interface without a network. What
	// is the host's beside it does not matter.
	Address = "10.243.0.1"
	// Name is the node's in Kubernetes.
	Name = "node"
	// Label is of nodes that have this runtime: its class wants it.
	Label = "microvm=installed"

	link     = "mvkube0" // has Address
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
	Dir      string
	Programs Programs
}

// Open finds the node in a directory.
func Open(dir string) (*Node, error) {
	n := &Node{Dir: dir}
	text, err := os.ReadFile(n.path("programs.json"))
	if err != nil {
		return nil, fmt.Errorf("find node in %s: %w: run `make kubernetes`", dir, err)
	}
	if err := json.Unmarshal(text, &n.Programs); err != nil {
		return nil, fmt.Errorf("read %s: %w", n.path("programs.json"), err)
	}
	return n, nil
}

// Up starts a node in a directory, which it makes, and returns when pods can run.
// What it has started is ended if it fails.
func Up(dir string, p Programs, say func(string)) (*Node, error) {
	n := &Node{Dir: dir, Programs: p}
	if _, err := os.Stat(dir); err == nil {
		return nil, fmt.Errorf("start node: %s exists: a node is or was running there: run `make kubernetes-down`", dir)
	}
	if err := n.begin(say); err != nil {
		return nil, errors.Join(fmt.Errorf("start node: %w", err), n.Down(func(string) {}))
	}
	return n, nil
}

// begin is Up without an end to what was started.
func (n *Node) begin(say func(string)) error {
	for _, step := range []struct {
		about string
		do    func() error
	}{
		{"directory " + n.Dir, n.makeDir},
		{"settings of the kernel are kept", n.keepSettings},
		{"interface " + link + " with " + Address, addLink},
		{"certificates", n.writeCertificates},
		{"configuration", n.writeFiles},
		{"microvm-runtime install", n.Install},
		{"images", n.makeImages},
		{"containerd, etcd", func() error { return n.startAll("containerd", "etcd") }},
		{"import of images", n.importImages},
		{"kube-apiserver", func() error { return n.startAll("kube-apiserver") }},
		{"kube-controller-manager, kube-scheduler, kubelet, kube-proxy", func() error {
			return n.startAll("kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")
		}},
		{"runtime classes microvm, runc", n.AddClasses},
		{"node is ready", n.awaitReady},
	} {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.about, err)
		}
		say(step.about)
	}
	return nil
}

// makeDir makes the directory and writes down which programs run.
func (n *Node) makeDir() error {
	if err := os.MkdirAll(n.path("run"), 0o755); err != nil {
		return err
	}
	text, err := json.Marshal(n.Programs)
	if err != nil {
		return err
	}
	return os.WriteFile(n.path("programs.json"), text, 0o600)
}

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
