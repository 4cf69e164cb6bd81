package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
)

// settings of the kernel are those that kubelet, kube-proxy and CNI's plugins
// change, below /proc/sys.
var settings = []string{
	"kernel/keys/root_maxbytes", "kernel/keys/root_maxkeys", "kernel/panic", "kernel/panic_on_oops",
	"vm/overcommit_memory", "vm/panic_on_oom",
	"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv4/conf/all/route_localnet",
	"net/ipv4/vs/conntrack", "net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables",
}

// keepSettings writes down what the kernel's settings are.
func (n *Node) keepSettings() error {
	kept := map[string]string{}
	for _, name := range settings {
		if value, err := os.ReadFile(filepath.Join("/proc/sys", name)); err == nil {
			kept[name] = strings.TrimSpace(string(value))
		}
	}
	text, err := json.Marshal(kept)
	if err != nil {
		return err
	}
	return os.WriteFile(n.path("settings.json"), text, 0o600)
}

// restoreSettings makes them what they were.
func (n *Node) restoreSettings() error {
	text, err := os.ReadFile(n.path("settings.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	kept := map[string]string{}
	if err == nil {
		err = json.Unmarshal(text, &kept)
	}
	for name, value := range kept {
		file := filepath.Join("/proc/sys", name)
		if now, rerr := os.ReadFile(file); rerr == nil && strings.TrimSpace(string(now)) != value {
			err = errors.Join(err, os.WriteFile(file, []byte(value), 0o644))
		}
	}
	return err
}

// addLink makes the interface with the control plane's address: a bridge that nothing is
// on, since not every kernel has dummies.
func addLink() error {
	l := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: link}}
	if err := netlink.LinkAdd(l); err != nil {
		return err
	}
	address := &net.IPNet{IP: net.ParseIP(controlAddress), Mask: net.CIDRMask(32, 32)}
	if err := netlink.AddrAdd(l, &netlink.Addr{IPNet: address}); err != nil {
		return err
	}
	return netlink.LinkSetUp(l)
}

// prepareNetwork has the kernel show pods' frames to the packet filter, where that is
// a module, and gives a worker by itself a way to the control plane's host, and so one
// to services: whatever has no route is sent nowhere, not even elsewhere.
func (n *Node) prepareNetwork() error {
	if _, err := n.output("", "modprobe", "br_netfilter"); err != nil {
		return err
	}
	route := &netlink.Route{Gw: net.ParseIP(workerGateway)}
	if err := netlink.RouteAdd(route); err != nil {
		return fmt.Errorf("add route through %s: %w: is the lab's -network %s?", workerGateway, err, WorkerNetwork)
	}
	return nil
}

// removeLinks removes it, and the pods' bridge.
func removeLinks() (err error) {
	for _, name := range []string{link, bridge} {
		l, ferr := netlink.LinkByName(name)
		if ferr != nil {
			continue // it is not there
		}
		if derr := netlink.LinkDel(l); derr != nil {
			err = errors.Join(err, fmt.Errorf("remove interface %s: %w", name, derr))
		}
	}
	return err
}
