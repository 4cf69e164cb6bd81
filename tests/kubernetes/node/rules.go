package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// removeRules takes back the packet filter rules of kube-proxy, kubelet and CNI's
// portmap.
func (n *Node) removeRules() error {
	if _, err := os.Stat(n.recordFile("kube-proxy")); errors.Is(err, os.ErrNotExist) {
		return nil // there never was one
	}
	if _, err := n.output("", filepath.Join(n.Programs.Kubernetes, "kube-proxy"), "--cleanup", "--config", n.path("kube-proxy.yaml")); err != nil {
		return err
	}
	var err error
	for _, program := range []string{"iptables", "ip6tables"} {
		for _, table := range []string{"mangle", "nat", "filter"} {
			err = errors.Join(err, n.removeChains(program, table))
		}
	}
	return err
}

// removeChains removes the chains of Kubernetes and portmap from a table, and
// first what leads to them.
func (n *Node) removeChains(program, table string) error {
	rules, err := n.output("", program+"-save", "-t", table)
	if err != nil {
		return err
	}
	var script strings.Builder
	fmt.Fprintf(&script, "*%s\n", table)
	var chains []string
	for line := range strings.Lines(rules) {
		f := strings.Fields(line)
		switch {
		case len(f) > 1 && strings.HasPrefix(f[0], ":") && isKubernetes(f[0][1:]):
			chains = append(chains, f[0][1:])
		case len(f) > 3 && f[0] == "-A" && !isKubernetes(f[1]) && isKubernetes(target(f)):
			fmt.Fprintf(&script, "-D %s", strings.TrimPrefix(line, "-A "))
		}
	}
	if len(chains) == 0 {
		return nil
	}
	for _, c := range chains {
		fmt.Fprintf(&script, "-F %s\n", c)
	}
	for _, c := range chains {
		fmt.Fprintf(&script, "-X %s\n", c)
	}
	script.WriteString("COMMIT\n")
	_, err = n.output(script.String(), program+"-restore", "--noflush")
	return err
}

func isKubernetes(chain string) bool {
	return strings.HasPrefix(chain, "KUBE-") || strings.HasPrefix(chain, "CNI-HOSTPORT-") || strings.HasPrefix(chain, "CNI-DN-")
}

// target is the chain that a rule leads to.
func target(rule []string) string {
	for i, word := range rule[:len(rule)-1] {
		if word == "-j" || word == "-g" {
			return rule[i+1]
		}
	}
	return ""
}
