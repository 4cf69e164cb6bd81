// Package network makes the guest's network what the host says: interfaces from
// the machine's network devices, with the addresses, routes and neighbours that
// they have in the container's network namespace on the host.
package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/vishvananda/netlink"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/microvm/microvm/agent/api"
)

// Network is the guest's network.
type Network struct {
	mu    sync.Mutex
	attic *attic
	// names are the interfaces in use, by device.
	names map[int]string
}

// New hides the machine's network devices from the containers until the host
// says what they are. Without any it does nothing.
func New() (*Network, error) {
	n := &Network{names: map[int]string{}}
	first, err := byAddress(api.NICAddress(0).String())
	if err != nil || first == nil {
		return n, err
	}
	if n.attic, err = openAttic(); err != nil {
		return nil, err
	}
	_, err = n.attic.fill()
	return n, err
}

// Set answers the machine service's call Network. Its errors are status errors.
func (n *Network) Set(_ context.Context, req *api.NetworkRequest) (*api.NetworkResponse, error) {
	want, err := api.ParseNetwork(req)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.apply(want); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &api.NetworkResponse{}, nil
}

// apply goes on after a failure, so that as much as possible is right.
func (n *Network) apply(want *api.Network) error {
	var all []error
	all = append(all, n.removeOthers(want.Interfaces))
	links := map[string]netlink.Link{}
	for i := range want.Interfaces {
		link, err := n.setInterface(&want.Interfaces[i])
		all = append(all, err)
		if link != nil {
			links[want.Interfaces[i].Name] = link
		}
	}
	all = append(all, setRoutes(links, want.Routes), setNeighbours(links, want.Neighbours))
	return errors.Join(all...)
}

// removeOthers puts the devices away that are to be no interface any more, or
// one of another name.
func (n *Network) removeOthers(want []api.Interface) error {
	names := map[int]string{}
	for _, i := range want {
		names[i.NIC] = i.Name
	}
	var all []error
	for device, name := range n.names {
		if names[device] == name {
			continue
		}
		link, err := netlink.LinkByName(name)
		if err == nil {
			err = n.attic.take(link, device)
		}
		if err == nil {
			delete(n.names, device)
		}
		all = append(all, err)
	}
	return errors.Join(all...)
}

// setInterface makes an interface what i says.
func (n *Network) setInterface(i *api.Interface) (netlink.Link, error) {
	link, err := n.bring(i)
	if err != nil {
		return nil, err
	}
	if err := setLink(link, i); err != nil {
		return link, fmt.Errorf("set up interface %s: %w", i.Name, err)
	}
	return link, nil
}

// bring returns the device that is to be i, which has its name already.
func (n *Network) bring(i *api.Interface) (netlink.Link, error) {
	if n.names[i.NIC] == i.Name {
		return netlink.LinkByName(i.Name)
	}
	if n.attic == nil {
		return nil, fmt.Errorf("make interface %s: the machine has no network device", i.Name)
	}
	link, err := n.attic.give(i.NIC, i.Name)
	if err == nil {
		n.names[i.NIC] = i.Name
	}
	return link, err
}

func setLink(link netlink.Link, i *api.Interface) error {
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
	if link.Attrs().Flags&net.FlagUp == 0 {
		if err := keepAddresses(link); err != nil {
			return err
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return fmt.Errorf("bring up: %w", err)
		}
	}
	return setAddresses(link, i.Addresses)
}
