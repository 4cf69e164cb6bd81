package node

import (
	"fmt"
	"slices"
	"strings"
)

// Role is the part of a cluster that a node is, or several.
type Role int

const (
	// Control is etcd and the control plane.
	Control Role = 1 << iota
	// Worker is containerd, kubelet, kube-proxy, and pods.
	Worker
	// Whole is all.
	Whole = Control | Worker
)

// controlPrograms are those of the control plane; the others are a worker's.
var controlPrograms = []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"}

// own are those of the programs that a node of its role runs.
func (n *Node) own(programs ...string) (own []string) {
	for _, p := range programs {
		role := Worker
		if slices.Contains(controlPrograms, p) {
			role = Control
		}
		if n.Role&role != 0 {
			own = append(own, p)
		}
	}
	return own
}

// Address is the node's own.
func (n *Node) Address() string {
	if n.Role == Worker {
		return workerAddress
	}
	return controlAddress
}

// step is one of those that start a node, of the roles that take it.
type step struct {
	about string
	of    Role
	do    func() error
}

// steps are all; certificates gets those.
func (n *Node) steps(certificates func() error) []step {
	start := func(programs ...string) step {
		own := n.own(programs...)
		s := step{about: strings.Join(own, ", "), do: func() error { return n.startAll(own...) }}
		if len(own) > 0 {
			s.of = n.Role
		}
		return s
	}
	var joined Role // is that of a worker by itself
	if n.Role == Worker {
		joined = Worker
	}
	return []step{
		{"directory " + n.Dir, Whole, n.makeDir},
		{"settings of the kernel are kept", Whole, n.keepSettings},
		{fmt.Sprintf("interface %s with %s", link, controlAddress), Control, addLink},
		{"network of the node", joined, n.prepareNetwork},
		{"certificates", Whole, certificates},
		{"configuration", Whole, n.writeFiles},
		{"microvm-runtime install", Worker, n.Install},
		{"images", Worker, n.makeImages},
		start("containerd", "etcd"),
		{"import of images", Worker, n.importImages},
		start("kube-apiserver"),
		start("kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"),
		{"runtime classes microvm, runc", Worker, n.AddClasses},
		{"node is ready", Worker, n.awaitReady},
	}
}
