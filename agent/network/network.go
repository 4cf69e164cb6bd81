// Package network makes the guest's network what the host says: interfaces from
// the machine's network devices, with the addresses, routes and neighbours that
// they have in the container's network namespace on the host.
package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/microvm/microvm/agent/api"
)

// Network is the network of the guest's containers, in a namespace of its own:
// the machine's devices stay in that of the agent until they are an interface.
type Network struct {
	// Names is the path of a file for resolv.conf(5).
	Names string

	path   string
	agents namespace

	mu         sync.Mutex
	containers namespace
	// names are the interfaces in use, by device, and uppers those without one.
	names  map[int]string
	uppers map[string]api.Upper
	// settings are what was said of the settings of interfaces, by name.
	settings map[string]map[string]string
	// What was set, by its key: the container may have others.
	addresses  []placed
	routes     map[string]*netlink.Route
	rules      map[string]*netlink.Rule
	neighbours map[string]*netlink.Neigh
	// last is what was asked for last.
	last *api.Network
	// relays serve names in the containers' namespace.
	relays map[*nameRelay]bool
}

// New makes the containers' namespace and pins it at path. A machine without
// network devices needs none.
func New(path string) (*Network, error) {
	n := &Network{Names: api.ResolvConf, names: map[int]string{}, uppers: map[string]api.Upper{}, settings: map[string]map[string]string{}, relays: map[*nameRelay]bool{}}
	found, err := nameDevices()
	if err != nil || found == 0 {
		return n, err
	}
	if n.agents, err = openNamespace(thisNamespace); err != nil {
		return nil, err
	}
	n.path = path
	n.containers, err = newNamespace(path)
	return n, err
}

// Path is where the containers' namespace is pinned, empty if there is none and
// they share the agent's.
func (n *Network) Path() string { return n.path }

// Adopt makes the network namespace of a process the containers'. One in a user
// namespace has to have a network namespace of its own.
func (n *Network) Adopt(pid int) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	to, err := openNamespace(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return err
	}
	if err := n.containers.do(func() error { return n.removeOthers(nil) }); err != nil {
		return err
	}
	n.containers.f.Close()
	n.containers, n.addresses, n.routes, n.rules, n.neighbours = to, nil, nil, nil, nil
	var all []error
	for r := range n.relays {
		all = append(all, r.listen(n.containers))
	}
	if n.last != nil {
		all = append(all, n.containers.do(func() error { return n.apply(n.last) }))
	}
	return errors.Join(all...)
}

// Set answers the machine service's call Network. Its errors are status errors.
func (n *Network) Set(_ context.Context, req *api.NetworkRequest) (*api.NetworkResponse, error) {
	want, err := api.ParseNetwork(req)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.path == "" {
		if len(want.Interfaces) > 0 {
			return nil, status.Error(codes.FailedPrecondition, "the machine has no network devices")
		}
		return &api.NetworkResponse{}, nil
	}
	n.last = want
	if err := n.writeNames(want.Nameservers); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	if err := n.containers.do(func() error { return n.apply(want) }); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &api.NetworkResponse{}, nil
}

// writeNames writes the servers' file, unless there are none.
func (n *Network) writeNames(servers []netip.Addr) error {
	if len(servers) == 0 {
		return nil
	}
	text := ""
	for _, s := range servers {
		text += "nameserver " + s.String() + "\n"
	}
	if err := os.WriteFile(n.Names, []byte(text), 0o644); err != nil {
		return fmt.Errorf("name servers: %w", err)
	}
	return nil
}

// apply runs in the containers' namespace. It goes on after a failure, so that
// as much as possible is right.
func (n *Network) apply(want *api.Network) error {
	var all []error
	all = append(all, n.removeOthers(want.Interfaces))
	links := map[string]netlink.Link{}
	for i := range want.Interfaces {
		link, err := n.setInterface(&want.Interfaces[i], links)
		all = append(all, err)
		if link != nil {
			links[want.Interfaces[i].Name] = link
		}
	}
	all = append(all, n.setAddresses(links, want), n.setRoutes(links, want.Routes), n.setRules(want.Rules), n.setNeighbours(links, want.Neighbours))
	return errors.Join(all...)
}

// removeOthers puts the devices away that are to be no interface any more, or
// one of another name.
func (n *Network) removeOthers(want []api.Interface) error {
	names := map[int]string{}
	for _, i := range want {
		if i.On == nil {
			names[i.NIC] = i.Name
		}
	}
	all := []error{n.removeUppers(want)}
	for device, name := range n.names {
		if names[device] == name {
			continue
		}
		link, err := netlink.LinkByName(name)
		if err == nil {
			err = n.agents.take(link, deviceName(device))
		}
		if err == nil {
			delete(n.names, device)
			delete(n.settings, name)
		}
		all = append(all, err)
	}
	return errors.Join(all...)
}

// setInterface makes an interface what i says. links are those before it.
func (n *Network) setInterface(i *api.Interface, links map[string]netlink.Link) (netlink.Link, error) {
	link, err := n.bring(i, links)
	if err != nil {
		return nil, err
	}
	if err := n.setLink(link, i); err != nil {
		return link, fmt.Errorf("set up interface %s: %w", i.Name, err)
	}
	return link, nil
}

// bring returns the device that is to be i, which has its name already.
func (n *Network) bring(i *api.Interface, links map[string]netlink.Link) (netlink.Link, error) {
	if i.On != nil {
		return n.bringUpper(i, links)
	}
	if n.names[i.NIC] == i.Name {
		return netlink.LinkByName(i.Name)
	}
	err := n.agents.do(func() error {
		link, err := netlink.LinkByName(deviceName(i.NIC))
		if err != nil {
			return fmt.Errorf("find network device %d: %w", i.NIC, err)
		}
		return n.containers.take(link, i.Name)
	})
	if err != nil {
		return nil, err
	}
	n.names[i.NIC] = i.Name
	return netlink.LinkByName(i.Name)
}

func (n *Network) setLink(link netlink.Link, i *api.Interface) error {
	mac, err := net.ParseMAC(i.MAC)
	if err != nil {
		return err
	}
	if link.Attrs().HardwareAddr.String() != mac.String() {
		if err := netlink.LinkSetHardwareAddr(link, mac); err != nil {
			return fmt.Errorf("set MAC %s: %w", i.MAC, err)
		}
	}
	if link.Attrs().MTU != i.MTU {
		if err := netlink.LinkSetMTU(link, i.MTU); err != nil {
			return fmt.Errorf("set MTU %d: %w", i.MTU, err)
		}
	}
	if i.NoARP != (link.Attrs().RawFlags&unix.IFF_NOARP != 0) {
		if err := setARP(link, !i.NoARP); err != nil {
			return fmt.Errorf("set ARP: %w", err)
		}
	}
	if err := n.setSettings(i); err != nil {
		return err
	}
	if link.Attrs().Flags&net.FlagUp == 0 {
		if err := keepAddresses(link); err != nil {
			return err
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return fmt.Errorf("bring up: %w", err)
		}
	}
	return nil
}

func setARP(link netlink.Link, on bool) error {
	if on {
		return netlink.LinkSetARPOn(link)
	}
	return netlink.LinkSetARPOff(link)
}
